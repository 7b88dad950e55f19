"""The items of a task as every arm answered them, joined by identifier and summed by patient."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmmed.errors import DataError
from mmmed.evaluation.metrics.catalogue import METRICS, classes_of
from mmmed.evaluation.metrics.tally import FloatArray, Judged, Metric, ratio
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.scorers import choice_of, normalise
from mmmed.evaluation.statistics import (
    Estimate,
    Spread,
    ValueOf,
    bootstrap_estimate,
    paired_estimate,
    patient_weights,
    spread_of,
    sum_by_patient,
)

# Legend of array names: P patients, R runs, T tally columns.

Run = Mapping[str, Sequence[Prediction]]


@dataclass(frozen=True)
class Asked:
    """Answers of all arms in all runs to the same items, and the resamples that all figures share."""

    runs: Sequence[Mapping[str, Sequence[Judged]]]
    patients: Sequence[str]
    order: Sequence[str]
    classes: Sequence[str]
    weights: NDArray[np.uint16]

    def unparsed(self, arm: str) -> int:
        """How many of the arm's answers could not be parsed, rounded up over runs."""
        return -(-sum(item.answer is None for run in self.runs for item in run[arm]) // len(self.runs))

    def tallies(self, metric: Metric, arm: str) -> FloatArray:
        """Summed by patient, the runs beside each other, (P, R T)."""
        return np.hstack(
            [sum_by_patient(metric.tally(run[arm], self.classes), self.patients, order=self.order) for run in self.runs]
        )

    def value_of(self, metric: Metric) -> ValueOf:
        """From totals of all runs to the mean over runs of the figure of each."""

        def mean(totals: FloatArray) -> FloatArray:
            each = metric.value(totals.reshape(*totals.shape[:-1], len(self.runs), -1))
            values: FloatArray = each.mean(axis=-1)
            return values

        return metric.value if len(self.runs) == 1 else mean

    def prior(self, metric: Metric) -> float | None:
        """What the most frequent reference, or place of it among the options, scores as the answer to every item.

        None for the rate of unparsed answers.
        """
        items = next(iter(self.runs[0].values()))
        if not items or metric is METRICS["unparsed"]:
            return None
        constant = [_same_text(items), *([_same_place(items)] if all(item.options for item in items) else [])]
        return max(float(metric.value(metric.tally(one, self.classes).sum(axis=0))) for one in constant)

    def alone(self, metric: Metric, tallies: FloatArray) -> Estimate:
        """An arm's figure."""
        return bootstrap_estimate(
            tallies, value_of=self.value_of(metric), weights=self.weights, support=self._support(metric, tallies)
        )

    def difference(self, metric: Metric, tallies: FloatArray, others: FloatArray) -> Estimate:
        """One arm's figure minus another's."""
        return paired_estimate(
            tallies,
            others,
            value_of=self.value_of(metric),
            weights=self.weights,
            support=self._support(metric, tallies),
        )

    def reliance(self, metric: Metric, tallies: FloatArray, others: FloatArray) -> Estimate:
        """Of what an arm cannot do under a control, the share that the true image adds; below 0 where it harms."""
        value_of = self.value_of(metric)

        def gained(totals: FloatArray) -> FloatArray:
            own, other = (value_of(each) for each in np.split(totals, 2, axis=-1))
            return ratio(own - other, 1.0 - other)

        both, bounds = np.hstack([tallies, others]), (-1.0, 1.0)
        return bootstrap_estimate(both, value_of=gained, weights=self.weights, support=len(self.order), bounds=bounds)

    def spread(self, metric: Metric, tallies: FloatArray) -> Spread:
        """How the figure differs between runs."""
        return spread_of([float(metric.value(each.sum(axis=0))) for each in np.hsplit(tallies, len(self.runs))])

    def _support(self, metric: Metric, tallies: FloatArray) -> int:
        return metric.support(np.hsplit(tallies, len(self.runs))[0])


def asked(runs: Sequence[Run], *, main: str, task: str, seed: int) -> Asked:
    """Join all arms of all runs on the items of the main arm.

    Raises:
        DataError: Arms or runs did not answer the same items, or an item stands twice, or belongs to another task.
    """
    ids = [item.id for item in runs[0][main]]
    judged = [_joined(run, main=main, task=task) for run in runs]
    times = Counter(item.id for run in runs for item in run[main])
    if apart := sorted(id for id, count in times.items() if count < len(runs)):
        raise DataError(
            f"task {task!r}: {len(apart)} items, such as {apart[0]!r}, were asked in some runs only; "
            "ask every run the same questions"
        )
    places = [{item.id: place for place, item in enumerate(run[main])} for run in runs]
    aligned = [
        {arm: [answers[place[id]] for id in ids] for arm, answers in run.items()}
        for run, place in zip(judged, places, strict=True)
    ]
    patients = [item.patient for item in judged[0][main]]
    order = sorted(set(patients))
    return Asked(
        runs=aligned,
        patients=patients,
        order=order,
        classes=classes_of(item for run in aligned for answers in run.values() for item in answers),
        weights=patient_weights(len(order), seed=seed),
    )


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


def _same_text(items: Sequence[Judged]) -> list[Judged]:
    """Every item answered by the most frequent reference."""
    counts = Counter(normalise(item.reference) for item in items)
    most = max(sorted(counts), key=counts.__getitem__)
    answer = next(item.reference for item in items if normalise(item.reference) == most)
    return [item._replace(answer=answer, said=answer) for item in items]


def _same_place(items: Sequence[Judged]) -> list[Judged]:
    """Every closed item answered by the option that stands where references stand most often."""
    right = [normalise(item.reference) for item in items]
    counts = Counter(
        place
        for item, reference in zip(items, right, strict=True)
        for place, one in enumerate(item.options)
        if normalise(one) == reference
    )
    most = max(sorted(counts), key=counts.__getitem__, default=0)
    chosen = [item.options[min(most, len(item.options) - 1)] for item in items]
    return [item._replace(answer=one, said=one) for item, one in zip(items, chosen, strict=True)]


def _judged(item: Prediction, options: Sequence[str]) -> Judged:
    answer = choice_of(item, options) if options else item.answer.strip() or None
    return Judged(item.reference, answer, item.patient, item.answer, tuple(options))
