"""The report of an experiment of models: figures by task, perplexity, contamination."""

import json
from collections.abc import Iterator
from pathlib import Path

from mmmed.data.leakage.texts import STRETCH
from mmmed.evaluation.compare import Row
from mmmed.evaluation.experiment_file import MAJORITY
from mmmed.evaluation.model_arms import ModelArm
from mmmed.evaluation.models_experiment import ModelsOutcome
from mmmed.evaluation.models_file import ModelsExperiment
from mmmed.page.html import write_page
from mmmed.page.wording import label, percent, points
from mmmed.training.provenance import environment


def publish_models(experiment: ModelsExperiment, outcome: ModelsOutcome, *, command: str) -> Path:
    """Write `report.html` beside the results and give its path."""
    page = outcome.output / "report.html"
    write_page(
        page,
        room="mmmed.evaluation",
        template="models.html.j2",
        title=experiment.name.replace("_", " "),
        question=experiment.question,
        sentences=list(_sentences(outcome)),
        against=experiment.against,
        seeds=len(experiment.seeds),
        tasks={
            task: {metric: _lines(outcome, task, metric) for metric in outcome.tasks[task].metrics}
            for task in outcome.tasks
        },
        arms={name: _meaning(arm) for name, arm in experiment.arms.items()}
        | {MAJORITY: "the most frequent training answer; the first in the alphabet where nothing was trained on"},
        perplexity=[
            {"arm": arm, "seed": seed, "text": text, "after": after}
            | {name: found[name][text] for name in ("before", "rise")}
            for arm, by_seed in outcome.perplexity.items()
            for seed, found in by_seed.items()
            for text, after in found["after"].items()
        ],
        contamination=outcome.contamination,
        stretch=STRETCH,
        command=command,
        environment=environment(),
    )
    return page


def summary_of_models(outcome: ModelsOutcome, page: Path) -> Iterator[str]:
    """A line for each task and arm, and where everything lies."""
    for task, settings in outcome.tasks.items():
        metric = settings.scorer or settings.metrics[0]
        for row in _lines(outcome, task, metric):
            against = f", {_difference(row)}" if row.baseline is not None else ""
            yield f"{task}: {row.arm} {percent(row.value)} % ({percent(row.low)} to {percent(row.high)}){against}"
    yield f"report      {page}"
    yield f"results     {outcome.output / 'results.json'}"


def _lines(outcome: ModelsOutcome, task: str, metric: str) -> list[Row]:
    """One row of each arm: its difference where there is one, else its figure alone."""
    chosen: dict[str, Row] = {}
    for row in outcome.rows:
        if (row.task, row.metric) == (task, metric) and (row.baseline is not None or row.arm not in chosen):
            chosen[row.arm] = row
    return list(chosen.values())


def _sentences(outcome: ModelsOutcome) -> Iterator[str]:
    for task, settings in outcome.tasks.items():
        lines = _lines(outcome, task, settings.scorer or settings.metrics[0])
        tuned = [row for row in lines if row.baseline is not None and row.arm != MAJORITY]
        if tuned:
            best = max(tuned, key=lambda row: row.value)
            yield f"{label(task)}: {label(best.arm)} {percent(best.value)} %, {_difference(best)}."


def _difference(row: Row) -> str:
    interval = f"({points(row.delta_low)} to {points(row.delta_high)})"
    return f"{points(row.delta)} points {interval} from {label(row.baseline or '')}"


def _meaning(arm: ModelArm) -> str:
    if arm.checkpoint is not None:
        how = f", {arm.shots} examples before each question" if arm.shots else ""
        return f"{arm.checkpoint} as it is{how}"
    after = f"after {label(arm.after)}: " if arm.after else ""
    changed = f", with {json.dumps(arm.override)}" if arm.override else ""
    return f"{after}{', then '.join(Path(stage).stem for stage in arm.stages)}{changed}"
