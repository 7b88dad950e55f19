"""The command table: every word after `mmmed`, what it runs and what it is for.

Nothing heavy is imported until a command is chosen, so `mmmed --help` answers at once.
"""

import difflib
import inspect
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, auto_cli

from mmmed import __version__
from mmmed.cli.memory import AT_MOST, BLOCK, keep_freed_memory
from mmmed.errors import ConfigError, MmmedError, did_you_mean

ENVIRONMENT = {
    # Threads that spin while they wait starve the others on a busy machine (decoding slows tenfold).
    "OMP_WAIT_POLICY": "passive",
    # Data loader workers fork after the tokenizer was used; its own threads would warn or hang.
    "TOKENIZERS_PARALLELISM": "false",
    # What gives every freed tensor or picture back to the system spends a tenth of its time getting it again.
    "MALLOC_MMAP_THRESHOLD_": str(BLOCK),
    "MALLOC_TRIM_THRESHOLD_": str(AT_MOST),
    # Nothing leaves the machine unless the user says so.
    "WANDB_MODE": "offline",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
SPINS = "1000"
"""Looks that a thread of GNU's OpenMP takes before it sleeps: what comes next within microseconds wakes nobody up, and
a busy machine loses nothing yet."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a word on the command line runs.

    Args:
        target: ``"module:function"``, imported when the command is chosen, or the commands of a group.
            The function returns an exit code, or nothing for success.
        summary: One line for the list of commands.
        parses_itself: The function takes the whole argument list, its own name first; otherwise its
            signature and docstring become the options and their help.
        positional: The options that the first words without dashes are the values of, in order, with spaces between.
        flags: Options that may be given without a value, which then is true.
    """

    target: "str | Mapping[str, Command]"
    summary: str
    parses_itself: bool = False
    positional: str = ""
    flags: tuple[str, ...] = ()


COMMANDS: dict[str, Command] = {
    "fit": Command("mmmed.cli.training:main", "train a model from a configuration", parses_itself=True),
    "validate": Command("mmmed.cli.training:main", "one pass over the validation split", parses_itself=True),
    "test": Command("mmmed.cli.training:main", "one pass over the test split", parses_itself=True),
    "evaluate": Command("mmmed.cli.evaluate:evaluate", "score a model on tasks", flags=("chat",)),
    "audit": Command("mmmed.cli.audit:audit", "check a model for bias, grounding, calibration, robustness, memory"),
    "abstain": Command("mmmed.cli.abstain:abstain", "let a model be silent where it would be wrong too often"),
    "index": Command("mmmed.cli.index:index", "make passages searchable, for tasks that retrieve"),
    "plan": Command(
        "mmmed.cli.plan:main", "say what a run will need and take: parameters, memory, time", parses_itself=True
    ),
    "zero_shot": Command(
        "mmmed.cli.zero_shot:zero_shot", "score a contrastive checkpoint: prompts, retrieval, linear probe"
    ),
    "chat": Command("mmmed.cli.serving:chat", "ask a model in the terminal"),
    "demo": Command("mmmed.cli.serving:demo", "open a local page on which a model is asked about pictures"),
    "generate": Command("mmmed.cli.commands:generate", "answer one question about one image"),
    "monitor": Command("mmmed.cli.monitor:monitor", "watch a model at work, and raise alarms when something changed"),
    "experiment": Command(
        {
            "run": Command(
                "mmmed.cli.experiment:experiment_run",
                "train, score and compare the arms of an experiment",
                positional="experiment",
            ),
            "compare": Command(
                "mmmed.cli.experiment:experiment_compare",
                "hold two results folders against each other, item by item",
                positional="first second",
            ),
            "shortcut": Command(
                "mmmed.cli.shortcut:shortcut", "plant a shortcut in rising doses and audit it", positional="study"
            ),
            "rate": Command(
                "mmmed.cli.experiment:experiment_rate", "read raters' forms back: agreement, means", positional="output"
            ),
        },
        "compare models with paired statistics",
    ),
    "export": Command(
        "mmmed.cli.interop:export_model", "write a model for transformers, vLLM or llama.cpp", positional="checkpoint"
    ),
    "import": Command("mmmed.cli.interop:import_model", "take over another project's checkpoint", positional="path"),
    "inspect": Command("mmmed.cli.interop:inspect_model", "say what a checkpoint holds", positional="path"),
    "data": Command(
        {
            "list": Command("mmmed.cli.cards:list_sets", "the data sets, their licences and what those forbid"),
            "show": Command("mmmed.cli.cards:show", "the card of a data set", positional="name", flags=("croissant",)),
            "stats": Command("mmmed.cli.data:stats", "a page for each data set: pictures, lengths, labels, who, gaps"),
            "check": Command("mmmed.cli.data:check", "find what stands in two splits"),
            "instruct": Command("mmmed.cli.instruct:instruct", "have conversations made from captions and reports"),
            "prepare": Command("mmmed.cli.data:prepare", "check, split and shard data sets for training"),
        },
        "look at data sets, prove their splits clean, make them ready, have conversations made",
    ),
    "accounts": Command(
        {
            "add": Command("mmmed.cli.accounts:add", "make an account; there is none at first", positional="name"),
            "list": Command("mmmed.cli.accounts:list_accounts", "who may log in, in which role"),
            "disable": Command("mmmed.cli.accounts:disable", "let somebody log in no more", positional="name"),
            "password": Command("mmmed.cli.accounts:password", "change a password", positional="name"),
        },
        "keep the accounts of a deployment",
    ),
    "signoff": Command(
        {
            "serve": Command(
                "mmmed.cli.signoff:serve_desk",
                "open the pages on which drafts are signed",
                flags=("two_people", "preliminary"),
            ),
            "intake": Command(
                "mmmed.cli.signoff:take_in", "make drafts of DICOM files that come in", flags=("preliminary", "once")
            ),
            "verify": Command("mmmed.cli.signoff:verify_history", "prove that the history was not altered"),
        },
        "review, amend, sign or reject what a model drafts",
    ),
    "feedback": Command(
        {
            "export": Command("mmmed.cli.feedback:export", "write what was amended as pairs to learn from and a task"),
            "report": Command("mmmed.cli.feedback:report", "say which corrected errors a model makes again"),
        },
        "let what people correct train and test the next model",
    ),
    "weights": Command(
        {
            "list": Command("mmmed.cli.weights:list_weights", "the weights that can be pulled"),
            "pull": Command("mmmed.cli.weights:pull", "fetch weights and check their hash", positional="reference"),
            "where": Command(
                "mmmed.cli.weights:where", "the folder that pulled weights are kept in", positional="reference"
            ),
        },
        "find, fetch and verify pretrained weights",
    ),
}


class ClearErrors(ArgumentParser):
    """Parser that says what is wrong in one line, and takes an option only by its full name.

    A misspelt option that happens to begin another (`--trainer.max_epoch`) is refused like any other.
    To use it with Lightning, name it before `LightningArgumentParser` among a parser's bases.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the complaint as a `ConfigError`, with the nearest option for a misspelt one."""
        if not self.exit_on_error:  # a parser inside a parser: the outer one collects what it says
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        program = parser.prog.replace(" [options]", "")
        lines = (line.strip(" -") for line in message.splitlines() if not _NOISE.match(line))
        complaint = "; ".join(lines).replace(":;", ":")
        raise ConfigError(f"{complaint}{_nearest_option(complaint, parser)}; see '{program} --help'") from ex


# jsonargparse reports every way in which a value could have been read; these lines add nothing to the one that failed.
_NOISE = re.compile(
    r"[ -]*(Does not validate against any|Subtypes:|Errors:|Given value type:|Given value: (?:\{|NestedArg)"
    r"|Expected a <class 'NoneType'>|$)"
)
_MISSPELT = re.compile(r"(?:unrecognized arguments: --|option ')([\w.-]+)", re.IGNORECASE)
_CLASS_PATH = re.compile(r"class_path '([\w.]+)\.(\w+)'")


def _nearest_option(complaint: str, parser: ArgumentParser) -> str:
    """Suggest an option of the parser, or of the class a complaint names, for the misspelt one; or nothing."""
    misspelt = _MISSPELT.search(complaint)
    if misspelt is None:
        return ""
    # Options are known by flag and configuration keys by dotted path: the same words, but for the dashes.
    options = [flag[2:] for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    if owners := _CLASS_PATH.findall(complaint):
        module, name = owners[-1]  # the innermost of nested ones is the one that has no such option
        owner = getattr(sys.modules.get(module), name, None)
        options = list(inspect.signature(owner).parameters) if inspect.isclass(owner) else []
    near = difflib.get_close_matches(misspelt[1], options, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for an error of input, 130 when interrupted."""
    if not any(name.startswith("MALLOC_") for name in os.environ):
        keep_freed_memory()  # what is in the environment glibc has read at the start of the process
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ["OMP_WAIT_POLICY"] == "passive":
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv, COMMANDS)
        finally:
            sys.stdout.flush()
    except MmmedError as error:
        print(f"mmmed: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mmmed: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever reads, such as `head`, has seen enough. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: Sequence[str], commands: Mapping[str, Command], words: tuple[str, ...] = ()) -> int:
    """Follow the words through the table to a function, and call it with what is left of the arguments."""
    if not arguments:
        print(_overview(commands, words), file=sys.stderr)
        return 2
    word, *rest = arguments
    if word in {"-h", "--help"}:
        print(_overview(commands, words))
        return 0
    if word == "--version" and not words:
        print(f"mmmed {__version__}")
        return 0
    if word not in commands:
        known = [*commands, "--help"] if words else [*commands, "--help", "--version"]
        raise ConfigError(f"unknown command '{' '.join(('mmmed', *words, word))}'{did_you_mean(word, known)}")

    command, words = commands[word], (*words, word)
    if not isinstance(command.target, str):
        return _run(rest, command.target, words)
    module, _, name = command.target.partition(":")
    function = getattr(import_module(module), name)
    if command.parses_itself:
        code = function([*words, *rest])
    else:
        program = " ".join(("mmmed", *words))
        for place, option in enumerate(command.positional.split()[: len(rest)]):
            if rest[place].startswith("-"):
                break
            rest[place] = f"--{option}={rest[place]}"
        rest = [f"{word}=true" if word in {f"--{flag}" for flag in command.flags} else word for word in rest]
        code = auto_cli(function, args=rest, as_positional=False, parser_class=ClearErrors, prog=program)
    return code if isinstance(code, int) else 0


def _overview(commands: Mapping[str, Command], words: tuple[str, ...]) -> str:
    program = " ".join(("mmmed", *words))
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in commands.items()]
    options = "[--help]" if words else "[--help] [--version]"
    return "\n".join(
        [f"usage: {program} {options} command ...", "", *lines, "", f"'{program} command --help' lists its options."]
    )


def _one_line(error: MmmedError) -> str:
    """Text of an error; one from a data loader's worker comes wrapped in its traceback, and ends with it."""
    name = type(error).__name__
    last = str(error).strip().rpartition("\n")[2]
    return last.removeprefix(f"{type(error).__module__}.{name}: ")
