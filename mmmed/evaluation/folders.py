"""Two folders of results held against each other: the same questions, paired item by item and patient by patient."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmmed.errors import ConfigError, DataError, did_you_mean
from mmmed.evaluation.answers import Answers
from mmmed.evaluation.asked import Run
from mmmed.evaluation.compare import Row, compare_runs
from mmmed.evaluation.experiment_file import MAIN
from mmmed.evaluation.predictions import Prediction, read_jsonl
from mmmed.evaluation.results import adjust, in_columns, primary_metrics
from mmmed.evaluation.task import Task
from mmmed.page.files import replace_text

CONTENTS = "predictions.json"
_HEADINGS = ("difference", "95 % interval", "p, Holm", "detectable")


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How a task's answers are judged, as a results folder keeps it.

    Args:
        version: Of the task.
        metrics: Names of metrics.
        deciding: The metric that the task declares to be decided by.
    """

    version: int
    metrics: Sequence[str]
    deciding: str | None


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a results folder holds.

    Args:
        name: Of the folder.
        tasks: How each is judged.
        files: Of each run, the file of predictions by task and arm.
    """

    name: str
    tasks: Mapping[str, Judging]
    files: Sequence[Mapping[str, Mapping[str, Path]]]

    def answers(self, task: str, arm: str) -> list[list[Prediction]]:
        """An arm's predictions in each run.

        Raises:
            ConfigError: The folder has no such arm.
            DataError: A file is not there, or is damaged.
        """
        known = self.files[0][task]
        if arm not in known:
            raise ConfigError(f"{self.name} has no arm {arm!r} in task {task!r}{did_you_mean(arm, known)}")
        return [read_jsonl(run[task][arm]) for run in self.files]


def write_contents(folder: Path, runs: Sequence[Mapping[str, Answers]], tasks: Mapping[str, Task]) -> None:
    """Keep which files a results folder's figures were made from.

    Raises:
        OutputError: The folder cannot be written to.
    """
    judged = {
        name: asdict(Judging(version=task.version, metrics=task.metrics, deciding=task.deciding))
        for name, task in tasks.items()
    }
    files = [
        {
            name: {arm: str(path.relative_to(folder)) for arm, path in answers.files.items()}
            for name, answers in run.items()
        }
        for run in runs
    ]
    replace_text(folder / CONTENTS, json.dumps({"tasks": judged, "runs": files}, indent=1) + "\n")


def read_contents(folder: Path) -> Results:
    """Read what a results folder holds.

    Raises:
        DataError: It is no results folder.
    """
    path = folder / CONTENTS
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        tasks = {name: Judging(**judged) for name, judged in content["tasks"].items()}
        files = [
            {task: {arm: folder / file for arm, file in arms.items()} for task, arms in run.items()}
            for run in content["runs"]
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: {error}; expected a folder that `mmmed experiment run` or `mmmed evaluate` left, of this version"
        ) from error
    return Results(name=folder.resolve().name, tasks=tasks, files=files)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What holding two folders against each other gave.

    Args:
        first: Name of the arm that differences are counted from.
        second: Name of the other.
        rows: All figures, adjusted as one family.
        answers: Of the first run, both arms' answers by task.
    """

    first: str
    second: str
    rows: list[Row]
    answers: Mapping[str, Run]

    def table(self) -> list[str]:
        """Lines of a table: both arms' deciding figure on every task, and the difference."""
        primary = primary_metrics(self.rows)
        lines: list[tuple[str, ...]] = [("task", "n", "metric", self.first, self.second, *_HEADINGS)]
        for task, metric in primary.items():
            rows = [row for row in self.rows if row.task == task and row.metric == metric]
            alone = {row.arm: row for row in rows if row.baseline is None}
            (row,) = [row for row in rows if row.baseline is not None]
            values = (f"{alone[arm].value:.3f}" for arm in (self.first, self.second))
            interval = f"{row.delta_low:+.3f} to {row.delta_high:+.3f}"
            tested = (f"{row.delta:+.3f}", interval, f"{row.p:.4f}", f"{row.detectable:.3f}")
            lines.append((task, str(row.n), metric, *values, *tested))
        return in_columns(lines)


def compare_folders(first: Path, second: Path, *, arm: str = MAIN, against: str | None = None) -> Difference:
    """Hold an arm of one folder against one of another, on every task that both have.

    Args:
        first: A results folder.
        second: Another, or the same where `against` is another arm.
        arm: The arm of the first folder.
        against: That of the second; the same arm unless named.

    Raises:
        ConfigError: They have no task in common, or other versions of one, or other numbers of runs.
        DataError: A folder holds no results, or they did not answer the same items.
    """
    one, other = read_contents(first), read_contents(second)
    shared = [task for task in one.tasks if task in other.tasks]
    if not shared:
        raise ConfigError(
            f"{first} and {second} have no task in common: {', '.join(one.tasks)}, and {', '.join(other.tasks)}"
        )
    names = _names(first, second, arm, against or arm)
    rows: list[Row] = []
    answers: dict[str, Run] = {}
    for task in shared:
        judged = one.tasks[task]
        if judged.version != other.tasks[task].version:
            raise ConfigError(
                f"task {task!r} is version {judged.version} in {first} and {other.tasks[task].version} in {second}; "
                "ask both the same version"
            )
        both = (one.answers(task, arm), other.answers(task, against or arm))
        if len(both[0]) != len(both[1]):
            raise ConfigError(
                f"{first} has {len(both[0])} runs and {second} has {len(both[1])}; give both the same number of seeds"
            )
        runs = [
            {name: [replace(item, arm=name) for item in said] for name, said in zip(names, pair, strict=True)}
            for pair in zip(*both, strict=True)
        ]
        answers[task] = runs[0]
        rows += compare_runs(runs, main=names[0], baselines=names[1:], task=task, metrics=judged.metrics, seed=0)
    deciding = {task: one.tasks[task].deciding for task in shared}
    return Difference(first=names[0], second=names[1], rows=adjust(rows, deciding=deciding), answers=answers)


def _names(first: Path, second: Path, arm: str, against: str) -> tuple[str, str]:
    """Two arms' names that tell them apart: of the folders, then with those above, or with the arms."""
    paths = first.resolve(), second.resolve()
    if paths[0] == paths[1]:
        if arm == against:
            raise ConfigError(f"{first} against itself; name two folders, or another arm with --against")
        return arm, against
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if names[0] != names[1]:
            return names[0], names[1]
    raise ConfigError(f"{first} and {second} are the same folder")
