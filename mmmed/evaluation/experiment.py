"""An experiment: arms that differ in one thing, asked the same questions, compared by patient.

`experiment.yaml` names the stages that train the model, the tasks and the baselines. `run` trains what is not
trained yet, asks what is not answered yet, compares and writes the report; after a stop it goes on where it was.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.arms import linear_probe, predict
from mmmed.evaluation.compare import Row, adjust, compare, majority, write_results
from mmmed.evaluation.controls import CONTROLS, control_named
from mmmed.evaluation.predictions import Prediction, read_jsonl, write_jsonl
from mmmed.evaluation.task import Task, load_task
from mmmed.inference.session import Session, open_session
from mmmed.records import Example

MAIN = "vlm"
TEXT_ONLY = "text_only"
BASELINES = (TEXT_ONLY, *CONTROLS, "majority", "linear_probe")

TEXT_ONLY_OVERRIDE = {"model": {"init_args": {"model": {"init_args": {"vision": None, "projector": None}}}}}

Fit = Callable[[list[str]], object]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What `experiment.yaml` says.

    Args:
        name: Short name.
        question: What the experiment is to answer.
        stages: Training configurations, in order; paths are relative to the working folder.
        tasks: Task files.
        baselines: What the model is held against; all of `BASELINES` unless named.
    """

    name: str
    question: str
    stages: tuple[str, ...]
    tasks: tuple[str, ...]
    baselines: tuple[str, ...] = field(default=BASELINES)


@dataclass(frozen=True)
class Outcome:
    """What a run found, and where it left it."""

    rows: list[Row]
    predictions: dict[str, dict[str, list[Prediction]]]
    tasks: dict[str, Task]
    sessions: dict[str, Path]
    output: Path


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file, or the `experiment.yaml` of a folder.

    Raises:
        ConfigError: It is not there, or has a missing or unknown key, stage or baseline.
    """
    file = path / "experiment.yaml" if path.is_dir() else path
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"experiment {file}: {' '.join(str(error).split())}") from error
    known = list(Experiment.__dataclass_fields__)
    if not isinstance(content, dict) or (missing := {"name", "question", "stages", "tasks"} - set(content)):
        raise ConfigError(f"experiment {file}: missing {', '.join(sorted(missing)) if isinstance(content, dict) else 'keys'}")
    if unknown := [key for key in content if key not in known]:
        raise ConfigError(f"experiment {file}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    baselines = content.get("baselines", "all")
    chosen = BASELINES if baselines == "all" else tuple(baselines)
    for name in chosen:
        if name not in BASELINES:
            raise ConfigError(f"experiment {file}: unknown baseline {name!r}{did_you_mean(name, BASELINES)}")
    for named in (*content["stages"], *content["tasks"]):
        if not Path(named).is_file():
            raise ConfigError(f"experiment {file}: no file {named}; run from the folder that its paths start in")
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return Experiment(**{**fields, "baselines": chosen})


def run(experiment: Experiment, output: Path, *, fit: Fit) -> Outcome:
    """Train, ask and compare; everything lands in `output`.

    Args:
        experiment: What to run.
        output: Folder of the results.
        fit: Runs one training configuration, given the command line of `mmmed fit`.
    """
    arms = {MAIN: _train(experiment.stages, output / MAIN, fit=fit)}
    if TEXT_ONLY in experiment.baselines:
        override = output / TEXT_ONLY / "override.yaml"
        override.parent.mkdir(parents=True, exist_ok=True)
        override.write_text(yaml.safe_dump(TEXT_ONLY_OVERRIDE), encoding="utf-8")
        stages = [stage for stage in experiment.stages if _trains_language(stage)]
        arms[TEXT_ONLY] = _train(stages, output / TEXT_ONLY, fit=fit, override=override)
    tasks = {task.name: task for task in map(load_task, experiment.tasks)}
    sessions = {arm: open_session(folder) for arm, folder in arms.items()}
    keys = {arm: digest(folder / "model.safetensors") for arm, folder in arms.items()}
    predictions = {
        name: ask(task, sessions, keys=keys, baselines=experiment.baselines, output=output / "predictions")
        for name, task in tasks.items()
    }
    rows = compare_all(predictions, tasks)
    write_results(output / "results.json", rows)
    return Outcome(rows, predictions, tasks, arms, output)


def ask(
    task: Task, sessions: dict[str, Session], *, keys: dict[str, str], baselines: Sequence[str], output: Path
) -> dict[str, list[Prediction]]:
    """Every arm's answers to a task; answers of the same weights to the same questions are read back."""
    asked = task.examples()
    questions = _hash("".join(f"{one.id}{one.turns}{one.options}{one.images}" for one in asked), str(task.version))
    answers: dict[str, list[Prediction]] = {}

    def kept(arm: str, key: str, answer: Callable[[Callable[[int], object]], list[Prediction]]) -> None:
        path = output / task.name / f"{arm}.{_hash(key, questions)}.jsonl"
        if path.is_file():
            answers[arm] = read_jsonl(path)
            return
        with tqdm(total=len(asked), desc=f"{task.name}: {arm}", unit="question") as progress:
            answers[arm] = answer(progress.update)
        write_jsonl(path, answers[arm])

    def model(session: Session, seen: Sequence[Example], arm: str) -> Callable[[Callable[[int], object]], list[Prediction]]:
        return lambda advance: predict(
            session, asked, seen=seen, arm=arm, task=task.name, max_new_tokens=task.max_new_tokens, advance=advance
        )

    for arm, session in sessions.items():
        kept(arm, keys[arm], model(session, asked, arm))
    for name in (name for name in CONTROLS if name in baselines):
        kept(name, f"{name}{keys[MAIN]}", model(sessions[MAIN], control_named(name)(asked), name))
    if "majority" in baselines:
        answers["majority"] = majority(answers[MAIN], training=task.training_answers())
    if "linear_probe" in baselines and task.is_closed and sessions[MAIN].model.vision is not None:
        kept(
            "linear_probe",
            f"linear_probe{keys[MAIN]}",
            lambda advance: linear_probe(sessions[MAIN], task.training(), asked, task=task.name, advance=advance),
        )
    return answers


def compare_all(predictions: dict[str, dict[str, list[Prediction]]], tasks: dict[str, Task]) -> list[Row]:
    """The rows of all tasks, adjusted as one family."""
    rows: list[Row] = []
    for name, by_arm in predictions.items():
        others = [arm for arm in by_arm if arm != MAIN]
        rows += compare(by_arm, main=MAIN, baselines=others, task=name, metrics=tasks[name].metrics, seed=0)
    return adjust(rows)


def _train(stages: Sequence[str], output: Path, *, fit: Fit, override: Path | None = None) -> Path:
    """Run the stages in order, each from the one before; a finished stage is not run again."""
    before: Path | None = None
    for number, stage in enumerate(stages, start=1):
        folder = output / f"{number}_{Path(stage).stem}"
        model = folder / "model"
        if not (model / "model.json").is_file():
            arguments = ["fit", "--config", stage]
            arguments += ["--config", str(override)] if override else []
            arguments += ["--output", str(folder), "--ckpt_path", "last"]
            arguments += ["--model.init_args.init_from", str(before)] if before else []
            fit(arguments)
        before = model
    if before is None:
        raise ConfigError(f"no stage trains the language model; {output.name} has nothing to learn")
    return before


def _trains_language(stage: str) -> bool:
    """Whether a stage has anything to train in a model without eyes."""
    content: dict[str, Any] = yaml.safe_load(Path(stage).read_text(encoding="utf-8"))
    return "language" in content["model"]["init_args"]["learning_rates"]


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hashed.update(chunk)
    return hashed.hexdigest()


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
