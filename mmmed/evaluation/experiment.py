"""An experiment: arms that differ in one thing, asked the same questions, compared by patient.

`experiment.yaml` names the stages that train the model, the tasks and the baselines. `run` trains what is not
trained yet, asks what is not answered yet, compares and writes the report; after a stop it goes on where it was.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from tqdm import tqdm

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.arms import Advance, can_probe, linear_probe, predict
from mmmed.evaluation.compare import Row, adjust, compare, majority, write_results
from mmmed.evaluation.controls import CONTROLS, FLOORS, control_named
from mmmed.evaluation.predictions import Prediction, read_jsonl, write_found, write_jsonl
from mmmed.evaluation.task import Task, load_task
from mmmed.evaluation.text_classifier import ARM as TEXT_CLASSIFIER
from mmmed.evaluation.text_classifier import ReadingArm, answer_by_reading, can_read, load_reading_arm, reading_arm_file
from mmmed.inference.asking import Answerer
from mmmed.inference.retrieval import cited
from mmmed.inference.session import Session, open_session
from mmmed.page.files import replace_text
from mmmed.records import Example
from mmmed.training.provenance import data_hash

MAIN = "vlm"
TEXT_ONLY = "text_only"
BASELINES = (TEXT_ONLY, *CONTROLS, "majority", "linear_probe")

TEXT_ONLY_OVERRIDE = {
    "model": {"init_args": {"model": {"init_args": {"vision": None, "projector": None, "cross_attention": None}}}}
}

Fit = Callable[[list[str]], object]
Answers = Callable[[Advance], list[Prediction]]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What `experiment.yaml` says.

    Args:
        name: Short name.
        question: What the experiment is to answer.
        stages: Training configurations, in order; paths are relative to the working folder.
        tasks: Task files.
        baselines: What the model is held against; all of `BASELINES` unless named. `FLOORS` only where named.
        text_classifier: File of one more baseline, a text encoder that is trained on the words of closed questions;
            a name stands for a file in configs/baseline/.
    """

    name: str
    question: str
    stages: tuple[str, ...]
    tasks: tuple[str, ...]
    baselines: tuple[str, ...] = field(default=BASELINES)
    text_classifier: str | None = None


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
    if not file.is_file():
        raise ConfigError(f"no experiment at {file}; give a folder with an experiment.yaml, or the file")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"experiment {file}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"experiment {file}: expected the keys name, question, stages and tasks")
    known = list(Experiment.__dataclass_fields__)
    if unknown := [str(key) for key in content if key not in known]:
        raise ConfigError(f"experiment {file}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    if missing := [key for key in ("name", "question", "stages", "tasks") if not content.get(key)]:
        raise ConfigError(f"experiment {file}: missing {', '.join(missing)}")

    def listed(key: str) -> tuple[str, ...]:
        value = content[key]
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigError(f"experiment {file}: {key} is {value!r}; expected a list of names")
        return tuple(value)

    baselines = BASELINES if content.get("baselines", "all") == "all" else listed("baselines")
    known = [*BASELINES, *FLOORS]
    for name in baselines:
        if name not in known:
            raise ConfigError(f"experiment {file}: unknown baseline {name!r}{did_you_mean(name, known)}")
    stages, tasks = listed("stages"), listed("tasks")
    reader = reading_arm_file(str(content["text_classifier"])) if content.get("text_classifier") else None
    for named in (*stages, *tasks, *([reader] if reader else [])):
        if not Path(named).is_file():
            raise ConfigError(f"experiment {file}: no file {named}; run from the folder that its paths start in")
    return Experiment(
        name=str(content["name"]),
        question=str(content["question"]),
        stages=stages,
        tasks=tasks,
        baselines=baselines,
        text_classifier=reader,
    )


def run(experiment: Experiment, output: Path, *, fit: Fit) -> Outcome:
    """Train, ask and compare; everything lands in `output`.

    Args:
        experiment: What to run.
        output: Folder of the results.
        fit: Runs one training configuration, given the command line of `mmmed fit`.

    Raises:
        ConfigError: Two tasks share a name, or the text-only arm or the text classifier has nothing to learn.
    """
    tasks = tasks_by_name(experiment.tasks)
    reader = load_reading_arm(experiment.text_classifier) if experiment.text_classifier else None
    text_stages = [stage for stage in experiment.stages if _trains_language(stage)]
    if TEXT_ONLY in experiment.baselines and not text_stages:
        raise ConfigError(f"no stage trains the language model; drop {TEXT_ONLY} from the baselines")
    if reader is not None and not any(task.is_closed and task.training_answers() for task in tasks.values()):
        raise ConfigError("no task has closed questions to train a text classifier on; drop text_classifier")
    arms = {MAIN: _train(experiment.stages, output / MAIN, fit=fit)}
    if TEXT_ONLY in experiment.baselines:
        override = output / TEXT_ONLY / "override.yaml"
        replace_text(override, yaml.safe_dump(TEXT_ONLY_OVERRIDE))
        arms[TEXT_ONLY] = _train(text_stages, output / TEXT_ONLY, fit=fit, override=override)
    sessions = {arm: open_session(folder) for arm, folder in arms.items()}
    keys = {arm: digest(folder / "model.safetensors") for arm, folder in arms.items()}
    predictions = {
        name: ask(
            task, sessions, keys=keys, baselines=experiment.baselines, output=output / "predictions", reader=reader
        )
        for name, task in tasks.items()
    }
    rows = compare_all(predictions, tasks)
    write_results(output / "results.json", rows)
    return Outcome(rows, predictions, tasks, arms, output)


def tasks_by_name(files: Sequence[str | Path]) -> dict[str, Task]:
    """Read task files. Raises `ConfigError` if two are of the same name, which names figures and predictions."""
    tasks: dict[str, Task] = {}
    for file in files:
        task = load_task(file)
        if task.name in tasks:
            raise ConfigError(f"task file {file}: a second task {task.name!r}; give each task a name of its own")
        tasks[task.name] = task
    return tasks


def ask(
    task: Task,
    sessions: Mapping[str, Answerer],
    *,
    keys: dict[str, str],
    baselines: Sequence[str],
    output: Path,
    reader: ReadingArm | None = None,
) -> dict[str, list[Prediction]]:
    """Every arm's answers to a task; answers of the same weights to the same questions are read back.

    Args:
        task: What is asked.
        sessions: The models that were trained.
        keys: Digest of each one's weights.
        baselines: Names out of `BASELINES`.
        output: Folder of the predictions.
        reader: The text classifier of closed questions, trained on their training split.
    """
    asked = task.examples()
    if task.audit.checked:
        task.audit.write(output / task.name / "privacy.jsonl")
    asking, pool, found = task.asking(), task.pool(), task.retrieved(asked)
    passages = [cited(one) for one in found] if found is not None else None
    questions = f"{data_hash(asked)} {task.version} {asking} {data_hash(pool)} {passages}"
    if found is not None:
        write_found(output / task.name / "retrieved.jsonl", asked, found)
    answers: dict[str, list[Prediction]] = {}

    def kept(arm: str, key: str, answer: Answers) -> None:
        path = output / task.name / f"{arm}.{_hash(key, questions)}.jsonl"
        if path.is_file():
            answers[arm] = read_jsonl(path)
            return
        with tqdm(total=len(asked), desc=f"{task.name}: {arm}", unit="question") as progress:
            answers[arm] = answer(progress.update)
        write_jsonl(path, answers[arm])

    def model(session: Answerer, seen: Sequence[Example], arm: str) -> Answers:
        return lambda advance: predict(
            session,
            asked,
            seen=seen,
            arm=arm,
            task=task.name,
            asking=asking,
            pool=pool,
            passages=passages,
            advance=advance,
        )

    for arm, session in sessions.items():
        kept(arm, keys[arm], model(session, asked, arm))
    for name in (name for name in (*CONTROLS, *FLOORS) if name in baselines):
        kept(name, f"{name}{keys[MAIN]}", model(sessions[MAIN], control_named(name)(asked), name))
    if "majority" in baselines:
        # Asks no model, so it is made anew from whatever was trained on.
        answers["majority"] = majority(answers[MAIN], training=task.training_answers())
        write_jsonl(output / task.name / "majority.jsonl", answers["majority"])
    probed = sessions[MAIN]
    if "linear_probe" in baselines and isinstance(probed, Session) and can_probe(probed, asked):
        training = task.training()
        kept(
            "linear_probe",
            f"linear_probe{keys[MAIN]}{data_hash(training)}",
            lambda advance: linear_probe(probed, training, asked, task=task.name, advance=advance),
        )
    texts = [one for one in task.training() if one.options] if reader is not None and can_read(asked) else []
    if reader is not None and texts:
        kept(
            TEXT_CLASSIFIER,
            f"{reader}{data_hash(texts)}",
            lambda advance: answer_by_reading(reader, texts, asked, task=task.name, advance=advance),
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
    made_from = ""
    for number, stage in enumerate(stages, start=1):
        folder = output / f"{number}_{Path(stage).stem}"
        made_from = _hash(made_from, *map(_text, [*_files(Path(stage)), *([override] if override else [])]))
        _claim(folder, made_from=made_from, stage=stage)
        model = folder / "model"
        if not (model / "model.json").is_file():
            arguments = ["fit", "--config", stage]
            arguments += ["--config", str(override)] if override else []
            arguments += ["--output", str(folder), "--ckpt_path", "last"]
            arguments += ["--model.init_args.init_from", str(before)] if before else []
            fit(arguments)
        before = model
    assert before is not None, "an experiment has at least one stage"
    return before


def _claim(folder: Path, *, made_from: str, stage: str) -> None:
    """Say what a folder is trained from.

    Raises:
        ConfigError: It holds the training of another configuration, which to go on with would be wrong.
    """
    note = folder / "made_from"
    if note.is_file() and _text(note) != made_from:
        raise ConfigError(
            f"{folder} was trained before {stage}, or a stage ahead of it, was changed; "
            "choose another --output, or delete that folder"
        )
    replace_text(note, made_from)


def _files(config: Path) -> list[Path]:
    """A configuration and those it includes."""
    named = re.findall(r"[^\s:\"']+\.yaml\b", _text(config))
    return [config, *(path for name in named if (path := config.parent / name).is_file())]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _trains_language(stage: str) -> bool:
    """Whether a stage has anything to train in a model without eyes."""
    try:
        rates = yaml.safe_load(Path(stage).read_text(encoding="utf-8"))["model"]["init_args"]["learning_rates"]
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"stage {stage}: expected model.init_args.learning_rates in it") from error
    return "language" in rates


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hashed.update(chunk)
    return hashed.hexdigest()


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
