"""What a user types at a trained model, and what comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from mmmed.cli import experiment
from mmmed.cli.main import ENVIRONMENT, main
from mmmed.evaluation.experiment_file import BASELINES, MAIN
from mmmed.models.folder import save

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in a folder of its own, and undo what a command sets for its process."""
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def checkpoint(make_model: Callable[..., Any], tmp_path: Path) -> str:
    """Folder of a run that left a tiny model."""
    settings = {"system": None, "max_length": 512}
    save(make_model(), tmp_path / "run" / "model", settings=settings, provenance={})
    return str(tmp_path / "run")


@pytest.fixture
def film(tmp_path: Path) -> str:
    Image.linear_gradient("L").save(tmp_path / "film.png")
    return str(tmp_path / "film.png")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder configs/task with a closed task and two of another data set."""
    folder = tmp_path / "configs" / "task"
    folder.mkdir(parents=True)
    settings = {
        "count": 12,
        "cache": str(tmp_path / "films"),
        "fractions": {"train": 0.5, "validation": 0.2, "test": 0.3},
    }
    source = {"class_path": "mmmed.data.sources.phantom.PhantomSource", "init_args": settings}
    for name, topic in {"findings": "nodule", "other_closed": "effusion", "other_open": "findings"}.items():
        content = {"name": name, "version": 1, "source": source, "topics": [topic], "max_new_tokens": 2}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


def error_of(capsys: Capture) -> str:
    output, error = capsys.readouterr()
    assert output == ""
    assert error.startswith("mmmed: error: ")
    assert error.count("\n") == 1
    return error


def test_generate_answers_about_a_picture(checkpoint: str, film: str, capsys: Capture) -> None:
    asked = ["generate", "--checkpoint", checkpoint, "--prompt", "Is there an effusion?", "--max_new_tokens", "6"]
    assert main([*asked, "--image", film]) == 0
    seen, note = capsys.readouterr()
    assert seen.strip()
    assert "not medical advice" in note
    assert main(asked) == 0
    assert capsys.readouterr().out != seen, "the picture matters to what a model of random weights says"


def test_generate_opens_the_model_folder_as_well_as_the_run(checkpoint: str, film: str, capsys: Capture) -> None:
    said = []
    for folder in (checkpoint, f"{checkpoint}/model"):
        assert (
            main(["generate", "--checkpoint", folder, "--prompt", "?", "--image", film, "--max_new_tokens", "4"]) == 0
        )
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "notes.txt"], "notes.txt is no picture in a known format"),
        (["--image", "nowhere.png"], "image nowhere.png cannot be read"),
        (["--prompt", " "], "--prompt is empty; ask something"),
        (["--prompt", "What is <image>?"], "write one placeholder per image"),
        (["--checkpoint", "nowhere"], "no model at nowhere; name the `model` folder"),
    ],
)
def test_a_mistake_in_generate_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, checkpoint: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    assert main(["generate", "--checkpoint", checkpoint, "--prompt", "What is shown?", *arguments]) == 2
    assert message in error_of(capsys)


def test_evaluate_scores_tasks_by_name_file_and_beginning(
    checkpoint: str, tasks: Path, tmp_path: Path, capsys: Capture
) -> None:
    named = f"other, {tasks / 'findings.yaml'}"
    assert main(["evaluate", "--checkpoint", checkpoint, "--tasks", named, "--output", "scores"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads((tmp_path / "scores" / "results.json").read_text())
    assert {row["task"] for row in rows} == {"findings", "other_closed", "other_open"}
    assert {row["arm"] for row in rows} == {MAIN, "majority", "blank", "shuffled", "noise", "absent"}
    assert any(line.startswith("other_closed") and " vlm " in line and "balanced_accuracy" in line for line in lines)
    assert lines[-1] == "results     scores/results.json"


def test_evaluate_can_leave_the_controls_out(checkpoint: str, tasks: Path, tmp_path: Path) -> None:
    given = ["evaluate", "--checkpoint", checkpoint, "--tasks", "findings", "--controls", "false"]
    assert main([*given, "--output", "scores"]) == 0
    rows = json.loads((tmp_path / "scores" / "results.json").read_text())
    assert {row["arm"] for row in rows} == {MAIN, "majority"}


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("findings,nowhere", "no task file configs/task/nowhere.yaml; the tasks of the project are in configs/task/"),
        (",", "--tasks names no task"),
        ("findings,findings", "a second task 'findings'"),
    ],
)
def test_a_mistake_in_the_tasks_is_one_line(
    named: str, message: str, checkpoint: str, tasks: Path, capsys: Capture
) -> None:
    assert main(["evaluate", "--checkpoint", checkpoint, "--tasks", named]) == 2
    assert message in error_of(capsys)


@pytest.mark.parametrize(("output", "option"), [(None, []), ("elsewhere", []), ("elsewhere", ["--processes", "2"])])
def test_experiment_run_takes_its_folder_by_position(
    output: str | None, option: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("stage.yaml", "task.yaml"):
        (tmp_path / name).write_text("")
    (tmp_path / "mine").mkdir()
    described = {"name": "first", "question": "Is it so?", "stages": ["stage.yaml"], "tasks": ["task.yaml"]}
    (tmp_path / "mine" / "experiment.yaml").write_text(yaml.safe_dump(described))
    ran: list[tuple[tuple[str, ...], Path]] = []
    published: list[str] = []
    monkeypatch.setattr(experiment, "run", lambda given, folder, fit, processes: ran.append((given.baselines, folder)))
    monkeypatch.setattr(experiment, "publish", lambda given, outcome, command: published.append(command))
    monkeypatch.setattr(experiment, "log_results", lambda *arguments: None)
    monkeypatch.setattr(experiment, "summary", lambda outcome, page: ["first: 0.9", "report"])
    option = [*(["--output", output] if output else []), *option]
    assert main(["experiment", "run", "mine", *option]) == 0
    assert ran == [(BASELINES, Path(output or "outputs/first"))]
    assert published == [" ".join(["mmmed experiment run mine", *option])], "the report tells what was typed"
    assert capsys.readouterr().out == "first: 0.9\nreport\n"


def test_an_experiment_that_is_not_there_is_one_line(capsys: Capture) -> None:
    assert main(["experiment", "run", "nowhere"]) == 2
    assert "no experiment at nowhere; give a folder with an experiment.yaml" in error_of(capsys)
