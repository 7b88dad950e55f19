"""The command table: quick to answer, one line for every mistake, defects keep their traceback."""

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from mmmed import __version__
from mmmed.cli import main as cli
from mmmed.errors import DataError

ROOT = Path(__file__).parents[2]


def measure(image: Path, *, window: float = 1.5, names: list[str] | None = None) -> int:
    """Measure one image.

    Args:
        image: The image to measure.
        window: Width of the window, in HU.
    """
    print(image, window, names)
    return 3


def refuse() -> None:
    """Refuse every input."""
    raise DataError("no images in 'x'; name a folder that holds some")


def refuse_in_a_worker() -> None:
    """Refuse as a data loader's worker process does, with its traceback as text."""
    raise DataError(
        "Caught DataError in DataLoader worker process 0.\nTraceback ...\nmmmed.errors.DataError: no images"
    )


def interrupt() -> NoReturn:
    """Press control-C."""
    raise KeyboardInterrupt


def fail() -> NoReturn:
    """Be wrong."""
    raise ZeroDivisionError


def train(arguments: list[str]) -> None:
    print(arguments)


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = ModuleType("stub_commands")
    for function in (measure, refuse, refuse_in_a_worker, interrupt, fail, train):
        setattr(stub, function.__name__, function)
        command = cli.Command(
            f"stub_commands:{function.__name__}",
            "a stub",
            parses_itself=function is train,
            positional="image" if function is measure else "",
        )
        monkeypatch.setitem(cli.COMMANDS, function.__name__, command)
    monkeypatch.setitem(cli.COMMANDS, "group", cli.Command({"measure": cli.COMMANDS["measure"]}, "a group"))
    monkeypatch.setitem(sys.modules, "stub_commands", stub)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a command sets for its process: a name set and deleted here is restored to what it was."""
    for name in (*cli.ENVIRONMENT, "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def leaves(commands: "dict[str, cli.Command]") -> Iterator[cli.Command]:
    for command in commands.values():
        if isinstance(command.target, str):
            yield command
        else:
            yield from leaves(dict(command.target))


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_do_not_import_torch(argument: str) -> None:
    script = f"""
import sys, time
from mmmed.cli.main import main
assert main([{argument!r}]) == 0
heavy = {{"torch", "numpy", "transformers", "lightning", "pandas"}} & set(sys.modules)
assert not heavy, heavy
assert time.process_time() < 1, time.process_time()
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_python_m_mmmed_is_mmmed() -> None:
    done = subprocess.run([sys.executable, "-m", "mmmed", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == f"mmmed {__version__}\n"


def test_help_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and command.summary in listed for name, command in cli.COMMANDS.items())


def test_no_command_lists_the_commands_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: mmmed" in capsys.readouterr().err
    assert cli.main(["group"]) == 2
    assert "usage: mmmed group" in capsys.readouterr().err


def test_a_group_has_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["weights", "--help"]) == 0
    listed = capsys.readouterr().out
    assert "usage: mmmed weights" in listed
    assert "pull" in listed


@pytest.mark.parametrize("command", list(leaves(cli.COMMANDS)), ids=lambda command: command.target)
def test_every_target_of_the_table_is_a_module_of_ours(command: cli.Command) -> None:
    assert isinstance(command.target, str)
    module, _, function = command.target.partition(":")
    spec = find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    (signature,) = re.findall(rf"^def {function}\(([^)]*)\)", source, re.MULTILINE)
    assert all(f"{option}: str" in signature for option in command.positional.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["measrue"], "unknown command 'mmmed measrue' (did you mean 'measure'?)"),
        (["--verison"], "unknown command 'mmmed --verison' (did you mean '--version'?)"),
        (["group", "measrue"], "unknown command 'mmmed group measrue' (did you mean 'measure'?)"),
        (["weights", "xyz"], "unknown command 'mmmed weights xyz' (known: --help, list, pull, where)"),
        (["refuse"], "no images in 'x'; name a folder that holds some"),
        (["refuse_in_a_worker"], "no images"),
        (
            ["measure", "--image", "x", "--windwo", "3"],
            "unrecognized arguments: --windwo 3 (did you mean 'window'?); see 'mmmed measure --help'",
        ),
        (
            ["measure", "--image", "x", "--wind", "3"],
            "unrecognized arguments: --wind 3 (did you mean 'window'?); see 'mmmed measure --help'",
        ),
        (["measure", "--config", "nowhere.yaml"], "nowhere.yaml'; see 'mmmed measure --help'"),
        (["group", "measure"], "the following arguments are required: image; see 'mmmed group measure --help'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("mmmed: error: ")
    assert error.endswith(f"{message}\n")
    assert error.count("\n") == 1


def test_a_misspelt_key_of_a_configuration_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "measure.yaml"
    config.write_text("image: x\nwindwo: 3\n")
    assert cli.main(["measure", "--config", str(config)]) == 2
    expected = "mmmed: error: Option 'windwo' is not accepted (did you mean 'window'?); see 'mmmed measure --help'\n"
    assert capsys.readouterr().err == expected


def test_a_value_of_the_wrong_type_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["measure", "--image", "x", "--window", "wide"]) == 2
    error = capsys.readouterr().err
    assert "window" in error
    assert "wide" in error
    assert "NoneType" not in error
    assert error.count("\n") == 1


def test_options_come_from_the_signature_and_the_exit_code_from_the_function(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["group", "measure", "--image", "film.png", "--names=[a, b]"]) == 3
    assert capsys.readouterr().out == "film.png 1.5 ['a', 'b']\n"


def test_a_first_word_without_dashes_fills_the_positional_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["measure", "film=1.png", "--window", "2"]) == 3
    assert capsys.readouterr().out == "film=1.png 2.0 None\n"
    assert cli.main(["measure", "film.png", "other.png"]) == 2
    assert "other.png" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["--help", "weights pull --help"])
def test_a_reader_that_stops_reading_ends_a_command_quietly(arguments: str) -> None:
    script = f"{shlex.quote(sys.executable)} -m mmmed {arguments} | true"
    stopped = subprocess.run(["bash", "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert stopped.stderr == ""


def test_help_of_a_command_is_its_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["measure", "--help"])
    shown = capsys.readouterr().out
    assert "usage: mmmed measure" in shown
    assert "Measure one image." in shown
    assert "in HU" in shown


def test_a_command_that_parses_itself_gets_its_name_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--help", "--x=1"]) == 0
    assert capsys.readouterr().out == "['train', '--help', '--x=1']\n"


def test_an_interrupt_is_one_line_and_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["interrupt"]) == 130
    assert capsys.readouterr().err == "mmmed: interrupted\n"


def test_a_defect_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        cli.main(["fail"])


def test_the_environment_is_set_but_never_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert cli.main(["--version"]) == 0
    assert os.environ["WANDB_MODE"] == "online"
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    assert os.environ["GOMP_SPINCOUNT"] == cli.SPINS
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    assert cli.main(["--version"]) == 0
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="memory is kept with glibc")
@pytest.mark.parametrize(("threshold", "is_kept"), [(None, True), ("1000000", False)])
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(threshold: str | None, is_kept: bool) -> None:
    program = (
        "import resource\n"
        "from mmmed.cli.main import main\n"
        "main(['--version'])\n"
        "bytes(40_000_000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): bytearray(b'1') * 40_000_000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"MALLOC_MMAP_THRESHOLD_": threshold} if threshold else {}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    pages = 40_000_000 // os.sysconf("SC_PAGE_SIZE")
    assert (int(done.stdout.split()[-1]) < 2 * pages) == is_kept


def test_a_misspelt_argument_of_a_class_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    class TableParser(cli.ClearErrors):
        """As Lightning uses it: objects are named by class path."""

    parser = TableParser(prog="mmmed fit")
    parser.add_argument("--place", type=cli.Command | None)
    value = {"class_path": "mmmed.cli.main.Command", "init_args": {"target": "a:b", "sumary": "x"}}
    with pytest.raises(cli.ConfigError, match=r"Option 'sumary' is not accepted \(did you mean 'summary'\?\)"):
        parser.parse_object({"place": value})
