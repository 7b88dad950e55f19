"""What `mmmed evaluate` prints and keeps, and what it does not ask twice."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmmed.cli.main import ENVIRONMENT, main
from mmmed.evaluation.experiment_file import MAIN
from mmmed.evaluation.predictions import read_jsonl

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in a folder of its own, and undo what a command sets for its process."""
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def language(make_model: Callable[..., Any], tmp_path: Path) -> str:
    """Folder of a tiny language model as transformers writes it."""
    model = make_model(vision=False, initializer_range=0.3).language
    model.model.save_pretrained(tmp_path / "tiny")
    model.tokenizer.save_pretrained(tmp_path / "tiny")
    return "tiny"


@pytest.fixture
def task(tmp_path: Path) -> str:
    """Twelve questions of an examination, by letter."""
    rows = [
        {
            "id": f"q{number}",
            "question": f"Where is it, in case {number}?",
            "options": {"A": "left lung", "B": "right lung", "C": f"lobe {number}", "D": "heart"},
            "answer": "ABCD"[number % 4],
            "subject": "Anatomy",
            "topic": None,
            "choice_type": "single",
        }
        for number in range(12)
    ]
    (tmp_path / "medmcqa_dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = {
        "name": "examination",
        "version": 1,
        "source": {"class_path": "mmmed.data.sources.medmcqa.MedMcqa", "init_args": {"root": str(tmp_path)}},
        "prompt": "Question: {question}\n{options}\nAnswer:",
        "answer": "letters",
        "shot_split": "test",
        "max_new_tokens": 4,
        "scorer": "accuracy",
    }
    (tmp_path / "examination.yaml").write_text(yaml.safe_dump(content))
    return "examination.yaml"


def kept(output: str) -> list[Any]:
    return [one for path in sorted(Path(output).glob("predictions/*/vlm.*.jsonl")) for one in read_jsonl(path)]


def test_a_language_model_is_scored_and_not_asked_twice(
    language: str, task: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["evaluate", "--checkpoint", language, "--tasks", task, "--output", "scores"]
    assert main([*given, "--shots", "2"]) == 0
    heading, row, last = capsys.readouterr().out.splitlines()
    assert heading.split() == ["task", "arm", "n", "metric", "value", "95", "%", "interval", "majority", "unparsed"]
    assert row.split()[:4] == ["examination", MAIN, "12", "accuracy"]
    assert last == "results     scores/results.json"
    answers = kept("scores")
    assert {one.answer for one in answers} <= {option for one in answers for option in one.options}
    assert "left lung" in answers[0].options
    before = (Path("scores") / "results.json").read_bytes()

    def refuse(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr("mmmed.evaluation.answers.answer_blocks", refuse)
    assert main([*given, "--shots", "2"]) == 0
    assert (Path("scores") / "results.json").read_bytes() == before
    with pytest.raises(AssertionError, match="asked again"):
        main([*given, "--shots", "1"])


def test_what_a_model_of_random_weights_reasons_is_unparsed(language: str, task: str, capsys: Capture) -> None:
    given = ["evaluate", "--checkpoint", language, "--tasks", task, "--output", "scores", "--limit", "5"]
    assert main([*given, "--strategy", "chain_of_thought"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[2] == "5"
    unparsed = float(row[-1])
    answers = kept("scores")
    assert unparsed == pytest.approx(sum(one.answer not in one.options for one in answers) / 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "http://127.0.0.1:9/v1"], "name the model to ask there"),
        (["--checkpoint", "http://127.0.0.1:9/v1", "--model", "m", "--chat"], "an endpoint always takes a chat"),
        (
            ["--checkpoint", "http://127.0.0.1:9/v1", "--model", "m", "--precision", "bfloat16"],
            "an endpoint has its own",
        ),
        (["--model", "m"], "names a model at an endpoint"),
        (["--shots", "12"], "11 examples to show before it; expected 12"),
        (["--strategy", "self_consistency"], "expected 2 samples or more and a temperature above 0"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, language: str, task: str, capsys: Capture) -> None:
    assert main(["evaluate", "--checkpoint", language, "--tasks", task, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1]


def contents(output: str) -> dict[str, bytes]:
    """All that a command leaves, by path."""
    files = sorted(path for path in Path(output).rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in files}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Products are rounded as in a process of one thread, which others may not be."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes_leave_what_one_leaves(
    language: str, task: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "small_blocks.py").write_text("from mmmed.evaluation import blocks\nblocks.BLOCK = 2\n")
    monkeypatch.setattr("mmmed.evaluation.blocks.BLOCK", 2)
    given = ["evaluate", "--checkpoint", language, "--tasks", task, "--shots", "1"]
    assert main([*given, "--output", "one"]) == 0
    # A process of its own for each rank, as torchrun starts them; blocks are as small there.
    driver = "import small_blocks, sys; from mmmed.cli.main import main; sys.exit(main(sys.argv[1:]))"
    launcher = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    path = os.pathsep.join([str(tmp_path), *sys.path])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", driver, *given, "--output", "ranks"],
            env=os.environ | launcher | {"RANK": str(rank), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    said = [rank.communicate()[0].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert "results     ranks/results.json" in said[0] and said[1] == ""
    assert contents("ranks") == contents("one")


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_processes_of_one_machine_leave_what_one_leaves(language: str, task: str) -> None:
    given = ["evaluate", "--checkpoint", language, "--tasks", task, "--shots", "1"]
    assert main([*given, "--output", "one"]) == 0
    assert main([*given, "--output", "two", "--processes", "2"]) == 0
    assert contents("two") == contents("one")


def test_protocols_and_wordings_are_scored_side_by_side(language: str, task: str, capsys: Capture) -> None:
    content = yaml.safe_load(Path(task).read_text())
    content |= {"variants": ["Examination. {question}\n{options}\nAnswer:"]}
    Path(task).write_text(yaml.safe_dump(content))
    given = ["evaluate", "--checkpoint", language, "--tasks", task, "--output", "scores"]
    assert main([*given, "--protocol", "llava_med"]) == 0
    rows = json.loads((Path("scores") / "results.json").read_text())
    alone = {(row["arm"], row["metric"]): row for row in rows if row["baseline"] is None}
    assert {"strict", "llava_med", "multimedeval", "lmms"} <= {metric for _, metric in alone}
    assert capsys.readouterr().out.splitlines()[1].split()[3] == "llava_med"
    own, other = alone[MAIN, "accuracy"], alone["wording_1", "accuracy"]
    assert own["wordings"] == 2
    assert {own["wording_least"], own["wording_most"]} == {own["value"], other["value"]}
    assert not any(row["baseline"] == "wording_1" for row in rows)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
