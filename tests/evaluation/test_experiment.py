"""An experiment trains, asks and compares; what is done is not done again, and what changed is."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mmmed.errors import ConfigError
from mmmed.evaluation import answers, blocks, trained
from mmmed.evaluation.answers import ask
from mmmed.evaluation.compare import RELIANCE, Row
from mmmed.evaluation.controls import CONTROLS, FLOORS
from mmmed.evaluation.experiment import compare_all, run, train_arms
from mmmed.evaluation.experiment_file import BASELINES, MAIN, TEXT_ONLY, ZERO_SHOT, read_experiment
from mmmed.evaluation.predictions import read_jsonl
from mmmed.evaluation.publish import publish
from mmmed.evaluation.task import CLOSED_METRICS, OPEN_METRICS, Task
from mmmed.evaluation.text_classifier import ARM as TEXT_CLASSIFIER
from mmmed.evaluation.text_classifier import ReadingArm
from mmmed.records import Example

if TYPE_CHECKING:
    from mmmed.inference.session import Session

KEYS = [each.name for each in fields(Row)]


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an experiment file says; its paths start in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("stage.yaml", "task.yaml"):
        (tmp_path / name).write_text("")
    return {"name": "mine", "question": "Is it so?", "stages": ["stage.yaml"], "tasks": ["task.yaml"]}


def written(content: object, path: Path) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_an_experiment_is_read_from_a_folder_or_a_file(content: dict[str, Any], tmp_path: Path) -> None:
    file = written(content | {"baselines": ["blank", "majority"]}, tmp_path / "experiment.yaml")
    described = read_experiment(tmp_path)
    assert described == read_experiment(file)
    assert described.stages == ("stage.yaml",)
    assert described.baselines == ("blank", "majority")


@pytest.mark.parametrize("change", [{}, {"baselines": "all"}])
def test_all_baselines_are_taken_unless_named(change: dict[str, str], content: dict[str, Any], tmp_path: Path) -> None:
    assert read_experiment(written(content | change, tmp_path / "experiment.yaml")).baselines == BASELINES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taks": []}, r"unknown key 'taks' \(did you mean 'tasks'\?\)"),
        ({"baselines": ["blnk"]}, r"unknown baseline 'blnk' \(did you mean 'blank'\?\)"),
        ({"baselines": "blank"}, "baselines is 'blank'; expected a list of names"),
        ({"stages": "stage.yaml"}, "stages is 'stage.yaml'; expected a list of names"),
        ({"stages": ["nowhere.yaml"]}, "no file nowhere.yaml; run from the folder that its paths start in"),
        ({"tasks": ["nowhere.yaml"]}, "no file nowhere.yaml"),
        ({"tasks": []}, "missing tasks"),
        ({"question": ""}, "missing question"),
        ({"seeds": 3}, "seeds is 3; expected a list of different whole numbers"),
        ({"seeds": [1, 1]}, r"seeds is \[1, 1\]; expected a list of different whole numbers"),
        ({"seeds": [True]}, r"seeds is \[True\]; expected a list"),
        ({"no_worse": ["text_only"]}, "no_worse is .*; expected a margin for each baseline"),
        ({"no_worse": {"text_onyl": 0.02}}, r"no_worse names 'text_onyl', .* \(did you mean 'text_only'\?\)"),
        ({"no_worse": {"text_only": 2}}, "no_worse of text_only is 2; expected a share such as 0.02"),
    ],
)
def test_a_mistake_in_an_experiment_is_one_line(
    change: dict[str, object], message: str, content: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        read_experiment(written(content | change, tmp_path / "experiment.yaml"))
    assert "\n" not in str(raised.value)


def test_seeds_and_margins_are_read(content: dict[str, Any], tmp_path: Path) -> None:
    described = read_experiment(
        written(content | {"seeds": [0, 7], "no_worse": {"linear_probe": 0.02}}, tmp_path / "experiment.yaml")
    )
    assert described.seeds == (0, 7)
    assert described.no_worse == {"linear_probe": 0.02}


def test_a_text_classifier_is_a_file_or_one_of_the_project_s(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(content | {"text_classifier": "task.yaml"}, tmp_path / "experiment.yaml")
    assert read_experiment(file).text_classifier == "task.yaml"
    written(content | {"text_classifier": "minilm"}, file)
    with pytest.raises(ConfigError, match=r"no file configs/baseline/minilm\.yaml"):
        read_experiment(file)
    (tmp_path / "configs" / "baseline").mkdir(parents=True)
    (tmp_path / "configs" / "baseline" / "minilm.yaml").write_text("")
    assert read_experiment(file).text_classifier == "configs/baseline/minilm.yaml"


def test_what_is_no_experiment_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no experiment at .*experiment.yaml; give a folder"):
        read_experiment(tmp_path)
    with pytest.raises(ConfigError, match="expected the keys name, question, stages and tasks"):
        read_experiment(written(["a"], tmp_path / "list.yaml"))
    (tmp_path / "broken.yaml").write_text("- [")
    with pytest.raises(ConfigError, match="while parsing"):
        read_experiment(tmp_path / "broken.yaml")


def test_results_are_a_tidy_table(tiny_experiment: Any) -> None:
    rows = json.loads((tiny_experiment.output / "results.json").read_text())
    assert all(list(row) == KEYS for row in rows)
    assert {(row["task"], row["metric"]) for row in rows} == {
        *(("closed", metric) for metric in CLOSED_METRICS),
        *(("free", metric) for metric in OPEN_METRICS),
        *((task, RELIANCE) for task in ("closed", "free")),
    }
    arms = {task: {row["arm"] for row in rows if row["task"] == task} for task in ("closed", "free")}
    assert arms["closed"] == {MAIN, *BASELINES, TEXT_CLASSIFIER}
    assert arms["free"] == {MAIN, *BASELINES} - {"linear_probe"}, "probe and classifier answer closed questions"
    for task, others in arms.items():
        compared = {row["baseline"] for row in rows if row["task"] == task and row["baseline"]}
        assert compared == others - {MAIN}
    tested = [row for row in rows if row["baseline"] and row["metric"] != RELIANCE]
    assert all(0 <= row["p"] <= 1 and row["delta"] is not None and row["family"] for row in tested)
    assert {row["baseline"] for row in rows if row["metric"] == RELIANCE} == set(CONTROLS)


def test_every_arm_leaves_its_predictions(tiny_experiment: Any) -> None:
    files = list((tiny_experiment.output / "predictions" / "closed").glob("*.jsonl"))
    assert sorted(file.name.split(".")[0] for file in files) == sorted([MAIN, *BASELINES, TEXT_CLASSIFIER])
    asked = {file.name.split(".")[0]: [one.id for one in read_jsonl(file)] for file in files}
    assert len(set(map(tuple, asked.values()))) == 1, "every arm answers the same questions in the same order"


def test_the_text_only_arm_trains_the_language_stages_without_an_encoder(tiny_experiment: Any) -> None:
    output = tiny_experiment.output
    assert [folder.name for folder in sorted((output / MAIN).iterdir())] == ["1_align", "2_instruct"]
    assert [folder.name for folder in (output / TEXT_ONLY).iterdir() if folder.is_dir()] == ["1_instruct"]
    model = json.loads((output / TEXT_ONLY / "1_instruct" / "model" / "model.json").read_text())
    assert model["model"]["vision"] is None
    assert model["model"]["projector"] is None
    eyes = json.loads((output / MAIN / "2_instruct" / "model" / "model.json").read_text())
    assert model["provenance"]["data_hash"] == eyes["provenance"]["data_hash"], "it reads the same text"
    assert model["provenance"]["steps"] == eyes["provenance"]["steps"]


def test_each_stage_starts_from_the_one_before(tiny_experiment: Any) -> None:
    first, second, text = tiny_experiment.trained[:3]
    before = str(tiny_experiment.output / MAIN / "1_align" / "model")
    assert second[second.index("--model.init_args.init_from") + 1] == before
    assert "--model.init_args.init_from" not in first + text


def test_a_second_run_trains_and_asks_nothing_again(tiny_experiment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (tiny_experiment.output / "results.json").read_bytes()
    count = len(tiny_experiment.trained)
    monkeypatch.setattr(answers, "answer_blocks", None)
    monkeypatch.setattr(answers, "linear_probe", None)
    monkeypatch.setattr(answers, "answer_by_reading", None)
    tiny_experiment.run()
    assert len(tiny_experiment.trained) == count
    assert (tiny_experiment.output / "results.json").read_bytes() == before


def test_a_changed_stage_is_not_taken_for_the_finished_one(tmp_path: Path) -> None:
    model, first, second = (tmp_path / f"{name}.yaml" for name in ("model", "first", "second"))
    model.write_text("width: 1")
    first.write_text("model: {model: model.yaml}")
    second.write_text("steps: 1")
    fitted: list[str] = []

    def fit(arguments: list[str]) -> None:
        fitted.append(Path(arguments[2]).stem)
        folder = Path(arguments[arguments.index("--output") + 1]) / "model"
        folder.mkdir(parents=True)
        (folder / "model.json").touch()

    def train(output: str = "out") -> list[str]:
        fitted.clear()
        trained.train([str(first), str(second)], tmp_path / output, fit=fit)
        return list(fitted)

    assert train() == ["first", "second"]
    assert train() == []
    model.write_text("width: 2")
    with pytest.raises(ConfigError, match=r"1_first was trained before .*first.yaml, .* was changed; choose another"):
        train()
    assert train("other") == ["first", "second"]


def test_each_seed_trains_each_arm_and_what_learns_nothing_stands_in_every_run(
    tiny_experiment: Any, tmp_path: Path
) -> None:
    fitted: list[list[str]] = []

    def fit(arguments: list[str]) -> None:
        fitted.append(arguments)
        folder = Path(arguments[arguments.index("--output") + 1]) / "model"
        folder.mkdir(parents=True)
        (folder / "model.json").touch()

    described = replace(tiny_experiment.described, seeds=(3, 5), baselines=(TEXT_ONLY, ZERO_SHOT))
    arms = train_arms(described, tmp_path, fit=fit)
    assert [list(one) for one in arms] == [[MAIN, TEXT_ONLY, ZERO_SHOT]] * 2
    assert arms[0][MAIN] == tmp_path / "seed_3" / MAIN / "2_instruct" / "model"
    assert arms[1][TEXT_ONLY] == tmp_path / "seed_5" / TEXT_ONLY / "1_instruct" / "model"
    assert arms[0][ZERO_SHOT] == arms[1][ZERO_SHOT] == tmp_path / ZERO_SHOT / "1_instruct" / "model"
    untrained = [one for one in fitted if one[-2:] == ["--trainer.max_steps", "0"]]
    assert len(untrained) == 1 and "--seed_everything" not in untrained[0]
    seeded = [one[one.index("--seed_everything") + 1] for one in fitted if one not in untrained]
    assert seeded == ["3"] * 3 + ["5"] * 3
    assert all(
        one[one.index("--data.init_args.seed") + 1] == seed
        for one, seed in zip([one for one in fitted if one not in untrained], seeded, strict=True)
    )


def test_figures_of_several_seeds_carry_their_spread_and_the_claim_of_no_difference(
    task: Task, session: Session, tmp_path: Path
) -> None:
    def once(identity: str) -> dict[str, Any]:
        by_arm = ask(task, {MAIN: session}, identities={MAIN: identity}, baselines=["blank"], output=tmp_path).by_arm
        return {task.name: by_arm}

    first, second = once("a"), once("b")
    flipped = {"yes": "no", "no": "yes"}
    second[task.name][MAIN] = [replace(one, answer=flipped[one.answer]) for one in second[task.name][MAIN]]
    rows = compare_all([first, second], {task.name: task}, no_worse={"blank": 0.1, "linear_probe": 0.1})
    own = next(row for row in rows if row.arm == MAIN and row.metric == "accuracy" and row.baseline is None)
    assert own.runs == 2 and own.value == pytest.approx(0.5)
    assert own.spread is not None and own.spread > 0
    claimed = [row for row in rows if row.margin is not None]
    assert {row.baseline for row in claimed} == {"blank"}, "a task without a baseline makes no claim about it"
    assert all(row.p_no_worse is not None and row.p_equivalent is not None for row in claimed)


@pytest.mark.slow
def test_two_seeds_and_an_untrained_arm_are_run_from_end_to_end(tiny_experiment: Any, tmp_path: Path) -> None:
    described = replace(
        tiny_experiment.described,
        seeds=(0, 1),
        baselines=(ZERO_SHOT, "absent", "majority"),
        tasks=tiny_experiment.described.tasks[:1],
        text_classifier=None,
        no_worse={ZERO_SHOT: 0.05},
    )
    outcome = run(described, tmp_path, fit=tiny_experiment.fit)
    first, second = (one["closed"] for one in outcome.runs)
    assert [one.options for one in first[MAIN]] != [one.options for one in second[MAIN]], "seeds differ"
    assert first[ZERO_SHOT] == second[ZERO_SHOT]
    assert len(list((tmp_path / "predictions" / "closed").glob(f"{ZERO_SHOT}.*.jsonl"))) == 1, "it is asked once"
    model = json.loads((tmp_path / ZERO_SHOT / "1_instruct" / "model" / "model.json").read_text())
    assert model["provenance"]["steps"] == 0 and model["model"]["vision"] is None
    assert {row.runs for row in outcome.rows} == {2}
    page = publish(described, outcome, command="mmmed experiment run tiny").read_text()
    assert "2 seeds" in page and "no worse by 5.0" in page and "as good within 5.0" in page


def test_two_tasks_of_one_name_and_nothing_to_learn_are_found_before_training(
    tiny_experiment: Any, tmp_path: Path
) -> None:
    def refuse(arguments: list[str]) -> None:
        raise AssertionError("trained")

    described = tiny_experiment.described
    twice = replace(described, tasks=described.tasks[:1] * 2)
    with pytest.raises(ConfigError, match="a second task 'closed'; give each task a name of its own"):
        run(twice, tmp_path, fit=refuse)
    aligned = replace(described, stages=described.stages[:1])
    with pytest.raises(ConfigError, match="no stage trains the language model; drop text_only"):
        run(aligned, tmp_path, fit=refuse)
    odd = replace(described, stages=(str(written({"model": 3}, tmp_path / "odd.yaml")),))
    with pytest.raises(ConfigError, match=r"odd.yaml: expected model.init_args.learning_rates"):
        run(odd, tmp_path, fit=refuse)
    assert not (tmp_path / MAIN).exists()


Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many questions each block had that a model was asked."""
    counts: list[int] = []
    real = blocks.answer

    def counted(answerer: Any, examples: Any, *given: Any, **how: Any) -> Any:
        counts.append(len(examples))
        return real(answerer, examples, *given, **how)

    monkeypatch.setattr(blocks, "answer", counted)
    return counts


@pytest.fixture
def task(make_task: Callable[..., Task], make_example: Callable[..., Example]) -> Task:
    options = ("yes", "no")
    settings = {"options": options, "topic": "effusion"}
    train = [make_example(f"train{film}", "Is it so?", options[film % 2], film, **settings) for film in range(4)]
    test = [
        make_example(f"test{film}", "Is it so?", options[film % 2], film, split="test", **settings)
        for film in range(4, 7)
    ]
    return make_task([*train, *test])


def test_an_interrupted_run_goes_on_at_the_arm_it_was_at(
    task: Task, session: Session, asked: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(examples: object) -> None:
        raise KeyboardInterrupt

    def everything() -> dict[str, Any]:
        floors = [*CONTROLS, *FLOORS, "majority"]
        return ask(task, {MAIN: session}, identities={MAIN: "a"}, baselines=floors, output=tmp_path).by_arm

    third = list(CONTROLS)[2]
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setitem(CONTROLS, third, interrupt)
        everything()
    assert asked == [3, 3, 3]
    found = everything()
    assert len(asked) == len([MAIN, *CONTROLS, *FLOORS])
    assert list(found) == [MAIN, *CONTROLS, *FLOORS, "majority"]
    assert everything() == found
    assert len(asked) == len([MAIN, *CONTROLS, *FLOORS])


def test_other_weights_or_other_questions_are_asked_again(
    task: Task, session: Session, asked: list[int], tmp_path: Path, make_task: Callable[..., Task]
) -> None:
    def once(task: Task, weights: str) -> int:
        asked.clear()
        ask(task, {MAIN: session}, identities={MAIN: weights}, baselines=["blank"], output=tmp_path)
        return len(asked)

    assert once(task, "a") == 2
    assert once(task, "a") == 0
    assert once(task, "b") == 2
    assert once(replace(task, version=2), "b") == 2
    assert once(replace(task, max_new_tokens=5), "b") == 2
    fewer = [one for one in task.source.records() if isinstance(one, Example)][:-1]
    assert once(make_task(fewer), "b") == 2
    assert once(task, "a") == 0


def test_a_classifier_is_trained_anew_when_its_settings_or_questions_change(
    task: Task, session: Session, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    real = answers.answer_by_reading

    def counted(arm: ReadingArm, training: Any, *given: Any, **how: Any) -> Any:
        trained.append(len(training))
        return real(arm, training, *given, **how)

    monkeypatch.setattr(answers, "answer_by_reading", counted)
    bert = {"model_type": "bert", "vocab_size": 420, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    reader = ReadingArm(
        weights=None, config=bert | {"num_attention_heads": 1}, tokenizer=str(tokenizer_folder), epochs=1
    )

    def once(reader: ReadingArm) -> dict[str, Any]:
        return ask(task, {MAIN: session}, identities={MAIN: "a"}, baselines=[], output=tmp_path, reader=reader).by_arm

    first = once(reader)
    assert once(reader) == first
    assert trained == [4]
    assert [one.id for one in first[TEXT_CLASSIFIER]] == [one.id for one in first[MAIN]]
    once(replace(reader, epochs=2))
    assert trained == [4, 4]
    rows = compare_all([{task.name: first}], {task.name: task})
    assert {row.baseline for row in rows} == {None, TEXT_CLASSIFIER}


def test_a_classifier_without_closed_questions_is_refused_before_training(tiny_experiment: Any, tmp_path: Path) -> None:
    free = replace(tiny_experiment.described, tasks=tiny_experiment.described.tasks[1:])
    with pytest.raises(ConfigError, match="no task has closed questions to train a text classifier on"):
        run(free, tmp_path, fit=lambda arguments: pytest.fail("trained"))


def test_a_task_without_baselines_is_compared_with_nothing(task: Task, session: Session, tmp_path: Path) -> None:
    found = ask(task, {MAIN: session}, identities={MAIN: "a"}, baselines=[], output=tmp_path).by_arm
    rows: list[Row] = compare_all([{task.name: found}], {task.name: task})
    assert [(row.arm, row.metric, row.baseline) for row in rows] == [(MAIN, metric, None) for metric in CLOSED_METRICS]


DRIVER = """
import sys, time
import torch
from mmmed.evaluation import blocks
from mmmed.evaluation.experiment import run
from mmmed.evaluation.experiment_file import read_experiment
from pathlib import Path
torch.set_num_threads(int(sys.argv[3]))
blocks.BLOCK = 2
real = blocks.replace_text
def slowly(*given):
    real(*given)
    time.sleep(0.2)
blocks.replace_text = slowly
run(read_experiment(Path(sys.argv[1])), Path(sys.argv[2]), fit=lambda arguments: sys.exit("trained"))
"""


@pytest.mark.slow
def test_a_run_that_was_killed_inside_a_task_ends_as_one_that_was_not(
    tiny_experiment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    described = tiny_experiment.described
    content = {
        "name": described.name,
        "question": described.question,
        "stages": list(described.stages),
        "tasks": list(described.tasks),
        "baselines": ["text_only", "blank", "absent", "majority"],
    }
    file = written(content, tmp_path / "experiment.yaml")
    for name in ("whole", "killed"):
        for arm in (MAIN, TEXT_ONLY):
            shutil.copytree(tiny_experiment.output / arm, tmp_path / name / arm)
    monkeypatch.setattr(blocks, "BLOCK", 2)
    run(read_experiment(file), tmp_path / "whole", fit=lambda arguments: pytest.fail("trained"))
    command = [sys.executable, "-c", DRIVER, str(file), str(tmp_path / "killed"), str(torch.get_num_threads())]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    kept = tmp_path / "killed" / "predictions" / "closed" / "blocks"
    while process.poll() is None and len(list(kept.glob("*.jsonl"))) < 2:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.json").exists()
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.jsonl")}
    assert before, "it was inside a task"
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, bytes]:
    """All that a run leaves beside its models, by path."""
    files = [folder / "results.json", folder / "predictions.json", *sorted((folder / "predictions").rglob("*.jsonl"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
