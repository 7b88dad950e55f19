"""Models of their own are trained for each seed, asked the same questions, and held against one of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmmed.errors import ConfigError
from mmmed.evaluation import models_experiment as module
from mmmed.evaluation.model_arms import ModelArm, kind_of, read_arms, train
from mmmed.evaluation.models_experiment import run_models
from mmmed.evaluation.models_file import read_models
from mmmed.evaluation.models_page import publish_models, summary_of_models
from mmmed.evaluation.results import read_results
from mmmed.evaluation.sharing import Share
from mmmed.records import Answer, Example

SOURCE = "mmmed.data.sources.medquad.MedQuad"


class Guesser:
    """Says yes to all, or what is right."""

    def __init__(self, *, knows: bool) -> None:
        self.knows = knows
        self.asked = 0

    def choose(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        self.asked += len(examples)
        said = [one.reference if self.knows else one.options[0] for one in examples]
        return [
            Answer(text=text, options={option: float(option == text) for option in one.options})
            for one, text in zip(examples, said, strict=True)
        ]

    def write(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        assert not examples
        return []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with questions, a stage whose training text holds one of them, and an experiment."""
    words = [f"Word{number} and so on until the question is long enough to share stretches" for number in range(20)]
    rows = [
        {
            "id": str(number),
            "question": f"{text}?",
            "options": {"A": "first", "B": "second", "C": "third", "D": "fourth"},
            "answer": "AB"[number % 2],
            "subject": "x",
            "topic": None,
            "explanation": None,
            "choice_type": "single",
        }
        for number, text in enumerate(words)
    ]
    (tmp_path / "mcq").mkdir()
    (tmp_path / "mcq" / "medmcqa_dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "text").mkdir()
    learned = [
        {"id": str(n), "source": "a", "focus": f"focus {n}", "qtype": "x", "question": f"What is {n}?", "answer": text}
        for n, text in enumerate([*[words[3]] * 4, *["Something else."] * 40])
    ]
    (tmp_path / "text" / "medquad_sample.jsonl").write_text("".join(json.dumps(one) + "\n" for one in learned))
    source = {"class_path": SOURCE, "init_args": {"root": "text", "fractions": [0.9, 0.1, 0.0]}}
    (tmp_path / "stage.yaml").write_text(json.dumps({"data": {"init_args": {"sources": [source]}}}))
    task = {
        "name": "medmcqa",
        "version": 1,
        "source": {"class_path": "mmmed.data.sources.medmcqa.MedMcqa", "init_args": {"root": "mcq"}},
        "scorer": "accuracy",
        "shot_split": "test",
    }
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, **changes: object) -> Path:
    content = {
        "kind": "models",
        "name": "models",
        "question": "Which?",
        "arms": {
            "general": {"checkpoint": "a"},
            "shown": {"checkpoint": "a", "shots": 2},
            "tuned": {"stages": ["stage.yaml"], "override": {"trainer": {"max_steps": 7}}},
        },
        "against": "general",
        "tasks": ["task.yaml"],
        "limits": {"medmcqa": 12},
        "seeds": [0, 1],
    }
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(content | changes))
    return path


def fit(arguments: list[str]) -> None:
    output = Path(arguments[arguments.index("--output") + 1])
    (output / "model").mkdir(parents=True)
    (output / "model" / "model.json").write_text("{}")
    (output / "model" / "model.safetensors").write_text(" ".join(arguments))
    seed = int(arguments[arguments.index("--seed_everything") + 1])
    texts = {"before": {"general": 10.0}, "after": {"general": 10.0 + seed}, "rise": {"general": seed / 10}}
    (output / "perplexity.json").write_text(json.dumps(texts))


def test_arms_are_trained_for_each_seed_and_held_against_the_general_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guessers: list[Guesser] = []

    def opened(arm: ModelArm, trained: Path | None) -> tuple[Guesser, str]:
        guessers.append(Guesser(knows=trained is not None))
        return guessers[-1], f"{arm.checkpoint} {trained}"

    monkeypatch.setattr(module, "opened_when_asked", opened)
    described = read_models(folder / "experiment.yaml")
    outcome = run_models(described, folder / "out", fit=fit)
    found = {
        (row.arm, row.baseline): row
        for row in read_results(folder / "out" / "results.json")
        if row.metric == "accuracy"
    }
    assert set(found) == {
        (arm, baseline) for arm in ("shown", "tuned", "majority") for baseline in (None, "general")
    } | {("general", None)}
    tuned = found["tuned", "general"]
    assert tuned.value == 1 and tuned.runs == 2 and tuned.n == 12
    assert tuned.delta_low is not None and tuned.delta_low > 0
    assert tuned.family == "primary", "the task says what it is decided by"
    assert sum(one.asked for one in guessers) == 12 * (1 + 2 + 2), "what is asked the same way is asked once"
    (shared,) = outcome.contamination
    assert (shared.arm, shared.questions) == ("tuned", 12) and shared.met <= 1
    assert outcome.perplexity["tuned"][1]["after"] == {"general": 11.0}
    page = publish_models(described, outcome, command="mmmed experiment run x").read_text("utf-8")
    assert "src=" not in page and "+10.0" in page
    assert "stage, with {" in page and "max_steps" in page
    assert any("tuned 100.0 %" in line for line in summary_of_models(outcome, folder))


def test_answers_of_several_processes_are_put_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[tuple[str, int], int] = {}

    def in_turn(work: Callable[..., object], *arguments: Any, processes: int) -> None:
        for number in range(processes):
            guessers.clear()
            work(*arguments, Share(number, processes))
            asked[work.__name__, number] = sum(one.asked for one in guessers)
        guessers.clear()

    guessers: list[Guesser] = []

    def opened(arm: ModelArm, trained: Path | None) -> tuple[Guesser, str]:
        guessers.append(Guesser(knows=trained is not None))
        return guessers[-1], f"{arm.checkpoint} {trained}"

    monkeypatch.setattr(module, "opened_when_asked", opened)
    monkeypatch.setattr(module, "in_processes", in_turn)
    described = read_models(folder / "experiment.yaml")
    run_models(described, folder / "alone", fit=fit)
    run_models(described, folder / "shared", fit=fit, processes=2)
    assert sum(asked.values()) == 12 * (1 + 2 + 2), "nothing is asked twice"
    assert asked["_train_in_turns", 0] + asked["_train_in_turns", 1] == 12 * (1 + 2), "models that need no training"
    assert min(asked["_train_in_turns", 0], asked["_train_in_turns", 1]) == 12, "a block at a time"
    assert min(asked["_answer_all", 0], asked["_answer_all", 1]) == 12, "tasks of one block are shared, too"
    assert not sum(one.asked for one in guessers), "what was answered is read back, for every seed"
    results = [(folder / name / "results.json").read_bytes() for name in ("alone", "shared")]
    assert results[0] == results[1]


def test_an_arm_is_trained_by_the_process_that_trains_the_one_it_follows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[list[str]] = []

    def in_turn(work: Callable[..., object], *arguments: Any, processes: int) -> None:
        for number in range(processes):
            trained.append([])
            work(*arguments, Share(number, processes))
        raise Stopped

    def noted(arguments: list[str]) -> None:
        assert arguments[-2:] == ["--trainer.enable_progress_bar", "false"]
        trained[-1].append(Path(arguments[arguments.index("--output") + 1]).relative_to(folder / "out").as_posix())
        fit(arguments)

    arms = {
        "a": {"stages": ["stage.yaml"]},
        "other": {"stages": ["stage.yaml"]},
        "b": {"stages": ["stage.yaml"], "after": "a"},
        "c": {"stages": ["stage.yaml"], "after": "b"},
    }
    monkeypatch.setattr(module, "in_processes", in_turn)
    with pytest.raises(Stopped):
        run_models(
            read_models(write(folder, arms=arms, against="a", seeds=[0])), folder / "out", fit=noted, processes=2
        )
    assert trained == [[f"{arm}/seed_0/1_stage" for arm in "abc"], ["other/seed_0/1_stage"]]


class Stopped(Exception):
    """After training."""


def test_a_shared_stretch_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "opened_when_asked", lambda arm, trained: (Guesser(knows=True), str(trained)))
    described = read_models(write(folder, limits={}))
    (shared,) = run_models(described, folder / "out", fit=fit).contamination
    assert (shared.questions, shared.met) == (20, 1)


def test_stages_run_in_order_once_and_from_where_they_are_told(folder: Path) -> None:
    called: list[list[str]] = []

    def noted(arguments: list[str]) -> None:
        called.append(arguments)
        fit(arguments)

    (folder / "second.yaml").write_text("data: {}")
    arm = ModelArm(stages=("stage.yaml", "second.yaml"))
    model = train(arm, folder / "runs", fit=noted, seed=3)
    assert model == folder / "runs" / "2_second" / "model"
    assert called[1][-2:] == ["--model.init_args.init_from", str(folder / "runs" / "1_stage" / "model")]
    train(arm, folder / "runs", fit=noted, seed=3)
    assert len(called) == 2
    with pytest.raises(ConfigError, match="was trained before"):
        train(arm, folder / "runs", fit=noted, seed=4)


def test_what_an_arm_changes_is_laid_over_each_of_its_stages(folder: Path) -> None:
    laid: list[object] = []

    def noted(arguments: list[str]) -> None:
        places = [place for place, one in enumerate(arguments) if one == "--config"]
        laid.append(yaml.safe_load(Path(arguments[places[1] + 1]).read_text()))
        fit(arguments)

    described = {"stages": ["stage.yaml"], "override": {"trainer": {"max_steps": 7}}}
    arm = read_models(write(folder, arms={"a": described}, against="a")).arms["a"]
    train(arm, folder / "alone", fit=noted)
    train(arm, folder / "and more", fit=noted, override={"data": {"x": 1}})
    assert laid == [{"trainer": {"max_steps": 7}}, {"trainer": {"max_steps": 7}, "data": {"x": 1}}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"a": {"checkpoint": "b", "override": {"trainer": {}}}}, "against": "a"}, "override is"),
        ({"against": "other"}, "against is 'other'"),
        ({"seeds": []}, "seeds is"),
        ({"tasks": ["none.yaml"]}, "no file none.yaml"),
        ({"arms": {"majority": {"checkpoint": "a"}}, "against": "majority"}, "arm of every experiment"),
        ({"arms": {"a": {"stages": ["stage.yaml"], "after": "b"}}, "against": "a"}, "follows 'b'"),
        ({"arms": {"a": {"checkpoint": "b", "precision": "int8"}}, "against": "a"}, "precision is 'int8'"),
        (
            {"arms": {"a": {"checkpoint": "http://b/v1", "precision": "bfloat16"}}, "against": "a"},
            "an endpoint has its own",
        ),
        ({"arms": {"a": {"stages": ["none.yaml"]}}, "against": "a"}, "no file none.yaml"),
    ],
)
def test_an_experiment_that_cannot_be_meant_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_models(write(folder, **changes))


def test_a_limit_of_no_task_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="limits names 'medqa'"):
        run_models(read_models(write(folder, limits={"medqa": 3})), folder / "out", fit=fit)


def test_the_usual_experiment_has_no_kind(folder: Path) -> None:
    assert kind_of(folder) == "models"
    (folder / "usual.yaml").write_text("name: a\nstages: []\n")
    assert kind_of(folder / "usual.yaml") is None and kind_of(folder / "nothing.yaml") is None
    assert read_arms({"a": {"checkpoint": "x"}}, place="here") == {"a": ModelArm(checkpoint="x")}
