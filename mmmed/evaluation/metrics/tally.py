"""Figures over many items that depend on them only through sums, so that they can be bootstrapped by patient.

Legend of array names: P items (or patients, after summing), T tally columns, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mmmed.evaluation.scorers import normalise

FloatArray = NDArray[np.float64]


class Judged(NamedTuple):
    """One item as the metrics see it.

    Args:
        reference: The answer held to be right.
        answer: The option that was chosen, or the text of an open answer; none where it could not be parsed.
        patient: Whom the item is about.
        said: The answer as it was given, for protocols that judge it as it stands.
        options: Those of a closed question.
    """

    reference: str
    answer: str | None
    patient: str
    said: str = ""
    options: tuple[str, ...] = ()


class Metric(Protocol):
    """A figure over many items that depends on them only through sums.

    Because of that a resample is a weighted sum of tallies, and thousands of them are one matrix product.
    """

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        """What each item adds to the sums, (P, T)."""
        ...

    def value(self, totals: FloatArray) -> FloatArray:
        """The figure from summed tallies, (..., T) to (...); not a number where it is undefined."""
        ...

    def support(self, tallies: FloatArray) -> int:
        """How many of P patients the figure rests on: all, or those of the rarest reference class."""
        ...


@dataclass(frozen=True, slots=True)
class MeanMetric:
    """The mean of a value per item."""

    item_value: Callable[[Judged], float]

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        return np.array([(self.item_value(item), 1.0) for item in items], dtype=np.float64).reshape(len(items), 2)

    def value(self, totals: FloatArray) -> FloatArray:
        return ratio(totals[..., 0], totals[..., 1])

    def support(self, tallies: FloatArray) -> int:
        return len(tallies)


@dataclass(frozen=True, slots=True)
class ClassMetric:
    """The mean over classes of a value per class, made from hits, answers and references of that class (each K)."""

    class_value: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        index = {name: number for number, name in enumerate(classes)}
        tallies = np.zeros((len(items), 3, len(classes)))
        for row, item in enumerate(items):
            reference = index[normalise(item.reference)]
            tallies[row, 2, reference] = 1.0
            if item.answer is not None:
                answer = index[normalise(item.answer)]
                tallies[row, 1, answer] = 1.0
                tallies[row, 0, answer] = float(answer == reference)
        return tallies.reshape(len(items), 3 * len(classes))

    def value(self, totals: FloatArray) -> FloatArray:
        hits, answers, references = np.split(totals, 3, axis=-1)
        return mean_of_defined(self.class_value(hits, answers, references))

    def support(self, tallies: FloatArray) -> int:
        patients = (np.split(tallies, 3, axis=-1)[2] > 0).sum(axis=0)
        return int(min(patients[patients > 0], default=0))


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide; not a number where the denominator is 0."""
    quotient = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def mean_of_defined(values: FloatArray) -> FloatArray:
    """The mean over the last axis of what is a number; not a number where nothing is."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def precision(hits: FloatArray, answers: FloatArray, references: FloatArray) -> FloatArray:
    """Share of what was said that is right."""
    return ratio(hits, answers)


def recall(hits: FloatArray, answers: FloatArray, references: FloatArray) -> FloatArray:
    """Share of what is right that was said."""
    return ratio(hits, references)


def f1(hits: FloatArray, answers: FloatArray, references: FloatArray) -> FloatArray:
    """Harmonic mean of precision and recall."""
    return ratio(2 * hits, answers + references)
