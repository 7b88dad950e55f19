"""Whether a model's confidence means what it says.

Legend of array names: N items, K bins, T tally columns.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from mmmed.errors import DataError
from mmmed.evaluation.metrics.tally import FloatArray, ratio
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.statistics import Estimate
from mmmed.evaluation.task import Task
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure, estimate, mean_estimate

Binning = Literal["width", "mass"]


class Confidence(NamedTuple):
    """What a model said of closed questions: how sure it was, whether it was right, and of whom."""

    sure: FloatArray
    right: FloatArray
    patients: tuple[str, ...]


@dataclass(kw_only=True)
class Calibration:
    """Measures expected calibration error and Brier score, and the error that is left after temperature scaling.

    The temperature is fitted on another split, never on what is judged.

    Args:
        task: Task file of closed questions.
        at_most: Greatest expected calibration error that is allowed, before scaling.
        bins: How many.
        fitted_on: Split that the temperature is fitted on.

    Source: Guo et al. 2017, ICML, On Calibration of Modern Neural Networks, sections 2 and 4.2.
    """

    task: str
    at_most: float | None = None
    bins: int = 10
    fitted_on: Literal["train", "validation"] = "validation"

    @property
    def title(self) -> str:
        """What is asked."""
        return "Is the model right as often as it says?"

    def examine(self, subject: Subject) -> list[Measure]:
        """Both kinds of bins and the Brier score, as asked; then the first again at the fitted temperature."""
        task = subject.task(self.task)
        items = answered(subject, task)
        held_out = answered(subject, replace(task, split=self.fitted_on))
        degrees = fitted_temperature(held_out)
        said, cooled = confidence_of(items), confidence_of(items, temperature=degrees)
        worst = _most_wrongly_sure(items)
        rows: list[tuple[str, Estimate, float | None, str]] = [
            (
                "expected calibration error, bins of equal width",
                calibration_error(said, self.bins, "width"),
                self.at_most,
                "",
            ),
            (
                "expected calibration error, bins of equal mass",
                calibration_error(said, self.bins, "mass"),
                self.at_most,
                "",
            ),
            ("Brier score of the answer given", brier(said), 0.25, "0.25 is that of always saying one half"),
        ]
        scaled = calibration_error(cooled, self.bins, "width")
        measures = [
            Measure.of(
                one,
                name=name,
                n=len(items),
                expected=0.0,
                most=most,
                items=worst,
                note=note,
            )
            for name, one, most, note in rows
        ]
        return [
            *measures,
            Measure.of(
                scaled,
                name="expected calibration error after temperature scaling",
                n=len(items),
                expected=0.0,
                most=self.at_most,
                items=worst,
                note=f"temperature {degrees:.2f}, fitted on {len(held_out)} questions of {self.fitted_on}",
            ),
        ]


def answered(subject: Subject, task: Task) -> list[Prediction]:
    """The answers to a task's closed questions.

    Raises:
        DataError: A question is open, and so has no probabilities of options.
    """
    items = subject.answers(task, task.examples())
    if not all(item.options for item in items):
        raise DataError(
            f"task {task.name}: confidence needs closed questions; choose a task whose questions have options"
        )
    return items


def confidence_of(items: Sequence[Prediction], *, temperature: float = 1.0) -> Confidence:
    """Confidence in the answer given and whether it was right, at a temperature."""
    sure = []
    for item in items:
        scaled = _scaled(item.options, temperature)
        sure.append(scaled.get(item.answer, 0.0))
    right = [float(item.answer == item.reference) for item in items]
    return Confidence(np.array(sure), np.array(right), tuple(item.patient for item in items))


def fitted_temperature(items: Sequence[Prediction]) -> float:
    """The temperature at which the right answers of these items are likeliest, between 0.05 and 20."""

    def loss(log_temperature: float) -> float:
        degrees = math.exp(log_temperature)
        return -sum(math.log(max(_scaled(item.options, degrees).get(item.reference, 0.0), 1e-12)) for item in items)

    return math.exp(float(minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded").x))


def _scaled(options: "dict[str, float]", temperature: float) -> dict[str, float]:
    logits = np.log(np.clip(list(options.values()), 1e-30, None)) / temperature
    shares = np.exp(logits - logits.max())
    return dict(zip(options, (shares / shares.sum()).tolist(), strict=True))


def calibration_error(said: Confidence, bins: int, binning: Binning) -> Estimate:
    """Mean distance of accuracy from confidence over bins, weighted by their items.

    Bins of equal mass are cut at quantiles of all items, and stay as they are in resamples.
    """
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = inner if binning == "width" else np.quantile(said.sure, inner)
    bin_N = np.digitize(said.sure, edges)
    member_NK = np.eye(bins)[bin_N]
    tallies = np.hstack([member_NK * said.sure[:, None], member_NK * said.right[:, None], member_NK])

    def error(totals: FloatArray) -> FloatArray:
        sure, right, count = np.split(totals, 3, axis=-1)
        distance: FloatArray = np.abs(sure - right).sum(axis=-1)
        return ratio(distance, count.sum(axis=-1))

    return estimate(tallies, said.patients, value_of=error)


def brier(said: Confidence) -> Estimate:
    """Mean squared distance of the confidence in the answer given from whether it was right."""
    return mean_estimate((said.sure - said.right) ** 2, said.patients)


def _most_wrongly_sure(items: Sequence[Prediction]) -> tuple[str, ...]:
    wrong = [item for item in items if item.answer != item.reference]
    return tuple(item.id for item in sorted(wrong, key=lambda item: -(item.confidence or 0.0)))
