"""The commands that use a trained model: evaluate, generate, experiment."""

from __future__ import annotations

import sys
from pathlib import Path

from mmmed.cli.training import main as train
from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.compare import primary_metrics, write_results
from mmmed.evaluation.controls import CONTROLS
from mmmed.evaluation.experiment import MAIN, ask, compare_all, digest, read_experiment, run, tasks_by_name
from mmmed.evaluation.publish import log_results, publish, summary
from mmmed.inference.session import open_session
from mmmed.processing.image import ImageFile
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn


def experiment_run(experiment: str, output: str | None = None) -> None:
    """Train, score and compare the arms of an experiment, and write its report.

    Args:
        experiment: Folder with an experiment.yaml, or the file.
        output: Folder of the results; outputs/NAME unless named. An interrupted run goes on where it was.
    """
    described = read_experiment(Path(experiment))
    outcome = run(described, Path(output or f"outputs/{described.name}"), fit=train)
    command = f"mmmed experiment run {experiment}{f' --output {output}' if output else ''}"
    page = publish(described, outcome, command=command)
    log_results(described, outcome)
    print("\n".join(summary(outcome, page)))


def evaluate(checkpoint: str, tasks: str, output: str = "outputs/evaluation", controls: bool = True) -> None:
    """Score a trained model on tasks, against its image controls and the majority answer.

    Args:
        checkpoint: Folder of a run or its `model` folder.
        tasks: Task files, or names of files in configs/task, separated by commas; a name that several files begin
            with, such as vqa_rad, stands for all of them.
        output: Folder of predictions and results.json.
        controls: Ask again with the image blank, shuffled, replaced by noise and absent.
    """
    loaded = tasks_by_name([file for name in tasks.split(",") if name.strip() for file in _task_files(name.strip())])
    if not loaded:
        raise ConfigError("--tasks names no task; the tasks of the project are in configs/task/")
    session = open_session(checkpoint)
    has_eyes = session.model.vision is not None
    baselines = ["majority", *(CONTROLS if controls and has_eyes else [])]
    keys = {MAIN: digest(_model_folder(checkpoint) / "model.safetensors")}
    predictions = {
        name: ask(task, {MAIN: session}, keys=keys, baselines=baselines, output=Path(output) / "predictions")
        for name, task in loaded.items()
    }
    rows = compare_all(predictions, loaded)
    write_results(Path(output) / "results.json", rows)
    primary = primary_metrics(rows)
    for row in rows:
        if row.metric == primary[row.task] and row.baseline is None:
            figure = f"{row.metric} {row.value:.3f} ({row.low:.3f} to {row.high:.3f}), n = {row.n}"
            print(f"{row.task:<24} {row.arm:<12} {figure}")
    print(f"results     {Path(output) / 'results.json'}")


def generate(checkpoint: str, prompt: str, image: str | None = None, max_new_tokens: int = 128) -> None:
    """Answer one question about one picture, word by word.

    Args:
        checkpoint: Folder of a run or its `model` folder.
        prompt: The question or instruction.
        image: PNG, JPEG or other picture; none asks about text alone.
        max_new_tokens: Longest answer, in tokens.
    """
    if not prompt.strip():
        raise DataError("--prompt is empty; ask something")
    images = (ImageFile(Path(image)),) if image else ()
    text = f"{IMAGE_PLACEHOLDER}\n{prompt}" if image else prompt
    question = Example(id="prompt", patient="", turns=(Turn("user", text),), images=images, source="command line")
    for file in images:
        file.open()
    for words in open_session(checkpoint).stream(question, max_new_tokens=max_new_tokens):
        print(words, end="", flush=True)
    print()
    print("Research use only; not medical advice.", file=sys.stderr)


def _task_files(name: str) -> list[Path]:
    if Path(name).suffix == ".yaml":
        return [Path(name)]
    file = Path("configs/task") / f"{name}.yaml"
    return [file] if file.is_file() else sorted(file.parent.glob(f"{name}_*.yaml")) or [file]


def _model_folder(checkpoint: str) -> Path:
    path = Path(checkpoint)
    return path if (path / "model.json").is_file() else path / "model"
