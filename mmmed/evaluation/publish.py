"""From an experiment's outcome to its report page and to ten lines in the terminal."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import wandb

from mmmed.data.card import read_card
from mmmed.evaluation.answers import questions_of
from mmmed.evaluation.asked import Run
from mmmed.evaluation.browser import Item
from mmmed.evaluation.compare import WORDING, Row
from mmmed.evaluation.controls import CONTROLS, FLOORS
from mmmed.evaluation.drawing import Curve
from mmmed.evaluation.experiment import Outcome
from mmmed.evaluation.experiment_file import LINEAR_PROBE, MAIN, MAJORITY, TEXT_ONLY, ZERO_SHOT, Experiment
from mmmed.evaluation.folders import Difference
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.report import render
from mmmed.evaluation.report_data import DataCount, Part, Picture, ReportData
from mmmed.evaluation.results import primary_metrics
from mmmed.evaluation.text_classifier import ARM as TEXT_CLASSIFIER
from mmmed.records import Example, LazyImage, Quarantined
from mmmed.training.provenance import environment

ARMS = {
    MAIN: "the model, with the image it is asked about",
    TEXT_ONLY: "trained on the same text for the same steps, without a vision encoder",
    ZERO_SHOT: "the language model as it was before training, without a vision encoder",
    "blank": "the model, every image uniform grey",
    "shuffled": "the model, every image that of another patient",
    "noise": "the model, every image noise",
    "absent": "the model, no image at all",
    "option_shuffle": "the model, the options in another order",
    MAJORITY: "the most frequent training answer",
    LINEAR_PROBE: "logistic regression on the mean of the same frozen image features",
    TEXT_CLASSIFIER: "a text encoder of the BERT kind, trained on the words of the training questions",
}

DECIDING = (TEXT_ONLY, ZERO_SHOT, *CONTROLS)
"""Baselines without the true image: who beats them all has seen."""
CURVES = {"train/loss": "Training loss", "validation/loss": "Validation loss"}
PICTURES_OF_A_KIND = 6


def publish(experiment: Experiment, outcome: Outcome, *, command: str) -> Path:
    """Write `report.html` beside the results and give its path."""
    folder = outcome.arms[0][MAIN]
    provenance = json.loads((folder / "model.json").read_text(encoding="utf-8"))["provenance"]
    page = outcome.output / "report.html"
    render(
        ReportData(
            title=experiment.name.replace("_", " "),
            rows=outcome.rows,
            main=MAIN,
            question=experiment.question,
            controls=[arm for arm in DECIDING if any(row.baseline == arm for row in outcome.rows)],
            arms=_arms(outcome),
            curves=list(_curves(outcome.output)),
            pictures=_pictures(outcome),
            items=list(_items(outcome)),
            quarantined=list(_quarantined(outcome)),
            parts=[Part(name, one["parameters"], one["trainable"]) for name, one in provenance["parameters"].items()],
            data=list(_data_counts(provenance["data"]["examples"])),
            config=_configs(experiment, outcome.arms[0][MAIN].parents[1]),
            commands=[command, f"mmmed generate --checkpoint {folder} --image FILE --prompt 'What is shown?'"],
            environment=environment(),
        ),
        page,
    )
    return page


def publish_difference(difference: Difference, output: Path, *, command: str) -> Path:
    """Write the page that holds two results folders against each other, and give its path."""
    page = output / "report.html"
    items = [
        Item(prediction=own, others=[other])
        for run in difference.answers.values()
        for own, other in zip(run[difference.first], _in_order(run, difference), strict=True)
    ]
    render(
        ReportData(
            title=f"{difference.first} and {difference.second}",
            rows=difference.rows,
            main=difference.first,
            question=f"Is {difference.first} better than {difference.second}?",
            items=items,
            commands=[command],
            environment=environment(),
        ),
        page,
    )
    return page


def _in_order(run: Run, difference: Difference) -> list[Prediction]:
    """The second arm's answers in the first one's order."""
    by_id = {one.id: one for one in run[difference.second]}
    return [by_id[one.id] for one in run[difference.first]]


def log_results(experiment: Experiment, outcome: Outcome) -> None:
    """Log the table of results to wandb, as a run of its own."""
    columns: list[str | int] = [field.name for field in fields(Row)]
    with wandb.init(
        project="mmmed", name=experiment.name, job_type="evaluation", dir=str(outcome.output), config=environment()
    ) as run:
        table: list[Iterable[Any]] = [[getattr(row, str(column)) for column in columns] for row in outcome.rows]
        run.log({"results": wandb.Table(columns=columns, data=table)})


def summary(outcome: Outcome, page: Path) -> Iterator[str]:
    """Ten lines or fewer: the main figure of each task, its baselines, and where everything lies."""
    primary = primary_metrics(outcome.rows)
    for task, metric in primary.items():
        rows = [row for row in outcome.rows if row.task == task and row.metric == metric]
        own = next(row for row in rows if row.arm == MAIN and row.baseline is None)
        seeds = f", {own.runs} seeds ±{own.spread:.3f}" if own.spread is not None else ""
        yield f"{task}: {metric.replace('_', ' ')} {_interval(own.value, own.low, own.high)}, n = {own.n}{seeds}"
        others = [f"{row.arm} {row.value:.2f}" for row in rows if row.baseline is None and row.arm != MAIN]
        if others:
            yield f"    against {', '.join(others)}"
    yield f"report      {page}"
    yield f"results     {outcome.output / 'results.json'}"
    yield f"checkpoint  {outcome.arms[0][MAIN]}"


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} (95% interval {low:.3f} to {high:.3f})"


def _curves(output: Path) -> Iterator[Curve]:
    for log in sorted([*output.glob("*/*/logs/metrics.csv"), *output.glob("seed_*/*/*/logs/metrics.csv")]):
        arm, stage = log.parents[2].name, log.parents[1].name.split("_", 1)[1]
        if log.parents[3] != output:
            arm = f"{arm}, {log.parents[3].name}"
        with log.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for column, panel in CURVES.items():
            points = [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
            if points:
                steps, values = zip(*points, strict=True)
                yield Curve(arm.replace("_", " "), steps, values, f"{panel}, {stage.replace('_', ' ')}")


def _pictures(outcome: Outcome) -> list[Picture]:
    """A few answers of each kind per task, where the data card lets pictures be shown."""
    pictures: list[Picture] = []
    for name, by_arm in outcome.runs[0].items():
        images = {
            f"{one.source}:{one.id}": one.images[0]
            for one in outcome.tasks[name].examples()
            if one.images and read_card(one.source).deidentified
        }
        controls = {one.id: one for one in by_arm.get("shuffled", ())}
        shown = [one for one in by_arm[MAIN] if one.id in images]
        for kind in ("right", "wrong", "changed"):
            chosen = [one for one in shown if _is(kind, one, controls.get(one.id))]
            pictures += [_picture(one, images, controls) for one in _spread(chosen, PICTURES_OF_A_KIND)]
    return list({picture.prediction.id: picture for picture in pictures}.values())


def _items(outcome: Outcome) -> Iterator[Item]:
    """Every item of the first run, with what the same model said under each control."""
    for name, by_arm in outcome.runs[0].items():
        task = outcome.tasks[name]
        asked = task.examples()
        put = questions_of(task, asked, found=task.retrieved(asked)).put()
        seen = {f"{one.source}:{one.id}": (one, words) for one, words in zip(asked, put, strict=True)}
        controls = [arm for arm in by_arm if arm in CONTROLS or arm in FLOORS or arm.startswith(WORDING)]
        others = [{one.id: one for one in by_arm[arm]} for arm in controls]
        for prediction in by_arm[MAIN]:
            example, words = seen[prediction.id]
            yield Item(
                prediction=prediction,
                others=[answers[prediction.id] for answers in others],
                prompt=_prompt(words),
                images=example.images,
            )


def _prompt(example: Example) -> str:
    """What a model reads, turn by turn, without the answer that is held to be right."""
    turns = list(example.turns)
    while turns and turns[-1].speaker == "assistant":
        turns.pop()
    if len(turns) == 1:
        return turns[0].text
    return "\n".join(f"[{turn.speaker}] {turn.text}" for turn in turns)


def _arms(outcome: Outcome) -> dict[str, str]:
    known = {row.arm for row in outcome.rows}
    wordings = {
        f"{WORDING}{number}": f"the model, asked on {name}: {prompt}"
        for name, task in outcome.tasks.items()
        for number, prompt in enumerate(task.variants, start=1)
    }
    return {arm: text for arm, text in (ARMS | wordings).items() if arm in known}


def _is(kind: str, prediction: Prediction, control: Prediction | None) -> bool:
    right = prediction.answer == prediction.reference
    changed = control is not None and right and control.answer != prediction.answer
    return {"right": right and not changed, "wrong": not right, "changed": changed}[kind]


def _picture(prediction: Prediction, images: dict[str, LazyImage], controls: dict[str, Prediction]) -> Picture:
    return Picture(image=images[prediction.id].open(), prediction=prediction, control=controls.get(prediction.id))


def _spread(items: Sequence[Prediction], count: int) -> Sequence[Prediction]:
    return items[:: max(1, len(items) // count)][:count]


def _quarantined(outcome: Outcome) -> Iterator[Quarantined]:
    seen: set[Quarantined] = set()
    for path in sorted(outcome.arms[0][MAIN].parents[1].glob("*/quarantine.jsonl")):
        seen.update(Quarantined(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
    for task in outcome.tasks.values():
        seen.update(task.quarantined())
    yield from sorted(seen, key=lambda one: (one.source, one.record))


def _data_counts(examples: dict[str, dict[str, int]]) -> Iterator[DataCount]:
    for source in sorted({source for counts in examples.values() for source in counts}):
        records = {split: counts.get(source, 0) for split, counts in examples.items()}
        yield DataCount(source, read_card(source).licence, records)


def _configs(experiment: Experiment, trained: Path) -> str:
    written: list[Any] = sorted(trained.glob("*/logs/config.yaml"))
    files = [*map(Path, experiment.tasks), *written]
    return "\n".join(f"# {file.name} of {file.parent}\n{file.read_text(encoding='utf-8')}" for file in files)
