"""What the README tells a reader to type exists, and the quick parts of it run.

A block under `<!-- run -->` is executed as it stands; of every other block the words are checked.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from mmmed.cli.main import COMMANDS, Command

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

FENCED = re.compile(
    r"(?P<run><!--\s*run\s*-->\s*\n)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```\s*$", re.MULTILINE | re.DOTALL
)
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
TARGET = re.compile(r"^([a-z][\w-]*):", re.MULTILINE)
# What a command writes lies under outputs/; all else it names must be in the repository.
REPOSITORY_PATH = re.compile(r"(?:\./)?(?:configs|data|docs|experiments|benchmarks|tests|mmmed)/.+")


class Block(NamedTuple):
    """One fenced block of code, and whether the tests run it."""

    language: str
    code: str
    run: bool


def fenced_blocks(text: str) -> list[Block]:
    return [Block(match["language"], match["code"], bool(match["run"])) for match in FENCED.finditer(text)]


def shell_commands(code: str) -> Iterator[list[str]]:
    """Split a shell script into simple commands, without prompts, comments and variables set in front."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if set(token) <= set("();<>|&"):
                if words:
                    yield words
                words = []
            elif words or not ASSIGNMENT.match(token):
                words.append(token)


def complaints(code: str, *, targets: set[str]) -> list[str]:
    """Say what in a shell script names a command, a make target or a file that does not exist."""
    found: list[str] = []
    for program, *arguments in shell_commands(code):
        if Path(program).name == "mmmed":
            found += _unknown_words(arguments) + _missing_paths(arguments)
        elif program == "make":
            wanted = [word for word in arguments if not word.startswith("-") and "=" not in word]
            found += [f"no make target '{word}'" for word in wanted if word not in targets]
    return found


def _unknown_words(arguments: list[str]) -> list[str]:
    target: str | object = COMMANDS
    for depth, word in enumerate(arguments):
        if not isinstance(target, dict) or word in {"--help", "-h", "--version"}:
            return []
        command = target.get(word)
        if not isinstance(command, Command):
            return [f"no command 'mmmed {' '.join(arguments[: depth + 1])}'"]
        target = command.target
    return [f"'mmmed {' '.join(arguments)}' lacks a command"] if isinstance(target, dict) else []


def _missing_paths(arguments: list[str]) -> list[str]:
    configs = {value for flag, value in pairwise(arguments) if flag == "--config"}
    values = {word.partition("=")[2] if word.startswith("--") else word for word in arguments}
    paths = configs | {value for value in values if REPOSITORY_PATH.fullmatch(value)}
    return [f"no file '{path}'" for path in sorted(paths) if not (ROOT / path).exists()]


def make_targets() -> set[str]:
    return set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))


def blocks_of_the_readme() -> list[Block]:
    return fenced_blocks(README.read_text(encoding="utf-8")) if README.exists() else []


def test_there_is_a_readme_with_commands() -> None:
    assert any(block.language == "bash" for block in blocks_of_the_readme())


@pytest.mark.parametrize("block", [block for block in blocks_of_the_readme() if block.language == "bash"])
def test_every_command_of_the_readme_exists(block: Block) -> None:
    assert not complaints(block.code, targets=make_targets())


@pytest.mark.parametrize("block", [block for block in blocks_of_the_readme() if block.run])
def test_what_the_readme_says_is_quick_runs(block: Block) -> None:
    if block.language == "python":
        command = [sys.executable, "-c", block.code]
    else:
        # The command of this very checkout, whether or not it is installed.
        here = f'mmmed() {{ {shlex.quote(sys.executable)} -m mmmed "$@"; }}\nset -euo pipefail\n'
        command = ["bash", "-c", here + block.code]
    search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": search}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_block_is_run_only_when_marked() -> None:
    text = "<!-- run -->\n```python\nprint()\n```\n\n```bash\nmake\n```\n"
    assert fenced_blocks(text) == [Block("python", "print()\n", True), Block("bash", "make\n", False)]


def test_a_script_is_split_into_its_commands() -> None:
    code = "$ A=1 mmmed fit \\\n  --config 'a b' # why\nmake check && (cd x; mmmed test) | tee log > out\n"
    assert list(shell_commands(code)) == [
        ["mmmed", "fit", "--config", "a b"],
        ["make", "check"],
        ["cd", "x"],
        ["mmmed", "test"],
        ["tee", "log"],
        ["out"],
    ]


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("mmmed fitt", "no command 'mmmed fitt'"),
        (".venv/bin/mmmed weights push", "no command 'mmmed weights push'"),
        ("mmmed weights", "'mmmed weights' lacks a command"),
        ("mmmed fit --config nowhere.yaml", "no file 'nowhere.yaml'"),
        ("mmmed fit --config=configs/nowhere.yaml", "no file 'configs/nowhere.yaml'"),
        ("mmmed experiment run experiments/nowhere", "no file 'experiments/nowhere'"),
        ("make chekc", "no make target 'chekc'"),
    ],
)
def test_a_command_that_does_not_exist_is_found(code: str, complaint: str) -> None:
    assert complaints(code, targets={"check"}) == [complaint]


@pytest.mark.parametrize(
    "code",
    ["mmmed --help", "mmmed weights pull default", "mmmed weights --help", "make -j2 VENV=x check", "ls outputs/x"],
)
def test_a_command_that_exists_is_not_complained_of(code: str) -> None:
    assert not complaints(code, targets={"check"})
