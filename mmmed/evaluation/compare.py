"""Hold one arm against its baselines on the same items: values, paired differences, intervals and p-values."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmmed.errors import ConfigError, DataError, did_you_mean
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.scorers import (
    FloatArray,
    Judged,
    Metric,
    classes_of,
    metric_named,
    normalise,
    parse_choice,
)
from mmmed.evaluation.statistics import (
    bootstrap_estimate,
    holm,
    paired_estimate,
    patient_weights,
    permutation_p,
    sum_by_patient,
)
from mmmed.page.files import replace_text

PRIMARY_CLOSED = "balanced_accuracy"
PRIMARY_OPEN = "token_f1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of one arm, alone or against one baseline.

    Args:
        arm: Which model or control.
        task: On what.
        metric: Which figure, a name of `scorers.METRICS`.
        value: The figure in [0, 1]; not a number over no items.
        low: Lower limit of its 95 % interval over patients; not a number for fewer than two patients.
        high: Upper limit.
        n: Items it was made from.
        baseline: The arm it is held against, or none for a figure alone.
        delta: Arm minus baseline on the same items.
        delta_low: Lower limit of the difference's 95 % interval.
        delta_high: Upper limit.
        p: Two-sided, permuted by patient; after `adjust`, Holm-adjusted.
    """

    arm: str
    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    baseline: str | None = None
    delta: float | None = None
    delta_low: float | None = None
    delta_high: float | None = None
    p: float | None = None


def compare(
    predictions_by_arm: Mapping[str, Sequence[Prediction]],
    *,
    main: str,
    baselines: Sequence[str],
    task: str,
    metrics: Sequence[str],
    seed: int,
) -> list[Row]:
    """Every arm's figures, and the main arm's paired differences from each baseline, with raw p-values.

    Arms are joined on the item's id. An item is closed if any arm gives it options; an answer that is none of them
    is unparsed in every arm.

    Raises:
        ConfigError: The main arm, a baseline or a metric is not known.
        DataError: The arms did not answer the same items, or an item stands twice, or belongs to another task.
    """
    for arm in (main, *baselines):
        if arm not in predictions_by_arm:
            raise ConfigError(f"no predictions of arm {arm!r}{did_you_mean(arm, predictions_by_arm)}")
    if main in baselines:
        raise ConfigError(f"the main arm {main!r} is also named as a baseline; compare it with other arms")
    judged = _joined(predictions_by_arm, main=main, task=task)
    patients = [item.patient for item in judged[main]]
    order = sorted(set(patients))
    weights = patient_weights(len(order), seed=seed)
    classes = classes_of(item for items in judged.values() for item in items)
    rows: list[Row] = []
    for name in metrics:
        metric = metric_named(name)
        tallies = {
            arm: sum_by_patient(metric.tally(items, classes), patients, order=order) for arm, items in judged.items()
        }
        alone = {arm: _alone(arm, task, name, metric, tallies[arm], weights, len(patients)) for arm in judged}
        rows += alone.values()
        rows += [
            _against(alone[main], baseline, metric, tallies[main], tallies[baseline], weights, seed)
            for baseline in baselines
        ]
    return rows


def adjust(rows: Sequence[Row]) -> list[Row]:
    """Holm-adjust the p-values of a whole experiment, once, over all tasks.

    The primary metric of each task (balanced accuracy where it is measured, else token F1) makes one family over all
    tasks and baselines; each other metric makes a family of its own.
    """
    primary = primary_metrics(rows)
    families: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.p is not None:
            family = "primary" if primary.get(row.task) == row.metric else row.metric
            families.setdefault(family, []).append(index)
    adjusted = list(rows)
    for indices in families.values():
        for index, p in zip(indices, holm([rows[index].p or 0.0 for index in indices]), strict=True):
            adjusted[index] = replace(rows[index], p=p)
    return adjusted


def primary_metrics(rows: Sequence[Row]) -> dict[str, str]:
    """The metric a task is decided by: balanced accuracy where it is measured, else token F1, else the first."""
    measured: dict[str, list[str]] = {}
    for row in rows:
        measured.setdefault(row.task, []).append(row.metric)
    return {
        task: next((name for name in (PRIMARY_CLOSED, PRIMARY_OPEN) if name in names), names[0])
        for task, names in measured.items()
    }


def write_results(path: Path, rows: Sequence[Row]) -> None:
    """Keep rows as a JSON array, whole or not at all; what is not a number becomes null.

    Raises:
        OutputError: The folder cannot be written to.
    """
    plain = [{name: _finite(value) for name, value in asdict(row).items()} for row in rows]
    replace_text(path, json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def majority(
    predictions: Sequence[Prediction], *, training: Mapping[str, Mapping[str, int]], arm: str = "majority"
) -> list[Prediction]:
    """The baseline that looks at neither image nor question: the training split's most frequent answer per topic.

    Where no option was an answer in the topic's training items, those of all topics count. Among equally frequent
    answers, or where none was ever given, the first in the alphabet is taken.

    Args:
        predictions: The items, as any other arm answered them.
        training: How often each answer occurs in the training split, by topic.
        arm: Name of the new arm.
    """
    by_topic = {topic: _normalised(counts) for topic, counts in training.items()}
    overall = sum(by_topic.values(), Counter[str]())
    return [_most_frequent(item, by_topic.get(item.topic, Counter()), overall, arm) for item in predictions]


def _most_frequent(item: Prediction, topic: Counter[str], overall: Counter[str], arm: str) -> Prediction:
    if not item.options:
        counts = topic or overall
        answer = max(sorted(counts), key=counts.__getitem__, default="")
        return replace(item, arm=arm, answer=answer, confidence=None)
    keys = {option: normalise(option) for option in sorted(item.options)}
    known = next((counts for counts in (topic, overall) if any(counts[key] for key in keys.values())), None)
    counts = Counter(keys.values()) if known is None else known
    total = sum(counts[key] for key in keys.values())
    shares = {option: counts[keys[option]] / total for option in item.options}
    answer = max(keys, key=shares.__getitem__)
    return replace(item, arm=arm, answer=answer, options=shares, confidence=shares[answer])


def _normalised(counts: Mapping[str, int]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for answer, count in counts.items():
        totals[normalise(answer)] += count
    return totals


def _joined(predictions_by_arm: Mapping[str, Sequence[Prediction]], *, main: str, task: str) -> dict[str, list[Judged]]:
    """All arms' answers in the main arm's order of items, parsed against the options any arm gives."""
    by_id = {arm: _by_id(arm, predictions, task) for arm, predictions in predictions_by_arm.items()}
    items = by_id[main]
    options: dict[str, dict[str, None]] = {id: {} for id in items}
    for arm, others in by_id.items():
        if apart := sorted(set(others) ^ set(items)):
            raise DataError(
                f"task {task!r}: arms {main!r} and {arm!r} did not answer the same items "
                f"({len(apart)} differ, such as {apart[0]!r}); answer the same items with every arm"
            )
        for id, other in others.items():
            if (other.reference, other.patient) != (items[id].reference, items[id].patient):
                raise DataError(
                    f"task {task!r}: item {id!r} has another reference or patient in arm {arm!r} than in {main!r}; "
                    "make both arms from the same data"
                )
            options[id].update(dict.fromkeys(other.options))
    return {arm: [_judged(others[id], list(options[id])) for id in items] for arm, others in by_id.items()}


def _by_id(arm: str, predictions: Sequence[Prediction], task: str) -> dict[str, Prediction]:
    by_id: dict[str, Prediction] = {}
    for item in predictions:
        if item.task != task:
            raise DataError(f"arm {arm!r}: item {item.id!r} belongs to task {item.task!r}; expected only {task!r}")
        if item.id in by_id:
            raise DataError(f"arm {arm!r}: item {item.id!r} of task {task!r} stands twice; expected each item once")
        by_id[item.id] = item
    return by_id


def _judged(item: Prediction, options: Sequence[str]) -> Judged:
    answer = parse_choice(item.answer, options) if options else item.answer.strip() or None
    return Judged(item.reference, answer, item.patient)


def _alone(arm: str, task: str, name: str, metric: Metric, tallies: FloatArray, weights: FloatArray, items: int) -> Row:
    estimate = bootstrap_estimate(tallies, value_of=metric.value, weights=weights, support=metric.support(tallies))
    return Row(arm=arm, task=task, metric=name, n=items, **estimate._asdict())


def _against(
    alone: Row,
    baseline: str,
    metric: Metric,
    tallies: FloatArray,
    others: FloatArray,
    weights: FloatArray,
    seed: int,
) -> Row:
    estimate = paired_estimate(tallies, others, value_of=metric.value, weights=weights, support=metric.support(tallies))
    return replace(
        alone,
        baseline=baseline,
        delta=estimate.value,
        delta_low=estimate.low,
        delta_high=estimate.high,
        p=permutation_p(tallies, others, value_of=metric.value, seed=seed),
    )


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
