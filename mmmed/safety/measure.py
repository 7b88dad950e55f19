"""A measured figure, the range it is allowed, and what the two say together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

import numpy as np

from mmmed.evaluation.metrics.tally import ratio
from mmmed.evaluation.ranking import BoolArray, weighted_auroc
from mmmed.evaluation.significance import holm
from mmmed.evaluation.statistics import (
    Estimate,
    FloatArray,
    ValueOf,
    bootstrap_estimate,
    interval_of,
    patient_weights,
    sum_by_patient,
)

# Legend of array names: N items, T tally columns.

SEED = 0
ALPHA = 0.05
RANKINGS = 1000
"""Resamples of areas under curves, each of which sorts all items anew."""


# Figures of a check are about the same number of patients, and drawing them is most of the work.
_drawn_weights = lru_cache(maxsize=2)(patient_weights)


class Verdict(StrEnum):
    """What a figure shows about its limit; nothing but `PASSED` lets a checkpoint through."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SHOWN = "not shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of a check.

    Args:
        name: What was measured, in words.
        value: The figure; not a number where it could not be made.
        low: Lower limit of its 95 % interval over patients.
        high: Upper limit.
        n: Items it was made from.
        expected: What a faultless model, or guessing where the note says so, would give.
        least: Least value that is allowed; none if there is no limit below.
        most: Greatest value that is allowed; none if there is no limit above.
        items: Identifiers of the items that made it bad, the worst first.
        note: What a reader has to know of it.
        p: Probability of a figure as far from what is expected by chance, adjusted (Holm) over the figures that it was
            looked for among; not a number where nothing was tested.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    expected: float
    least: float | None = None
    most: float | None = None
    items: tuple[str, ...] = ()
    note: str = ""
    p: float = math.nan

    @classmethod
    def of(
        cls,
        found: Estimate,
        *,
        name: str,
        n: int,
        expected: float,
        least: float | None = None,
        most: float | None = None,
        items: Iterable[str] = (),
        note: str = "",
        p: float = math.nan,
    ) -> "Measure":
        """From an estimate."""
        return cls(
            name=name,
            value=found.value,
            low=found.low,
            high=found.high,
            n=n,
            expected=expected,
            least=least,
            most=most,
            items=tuple(items),
            note=note,
            p=p,
        )

    @property
    def verdict(self) -> Verdict:
        """Passed or failed only where the whole interval is inside or outside; not shown without a limit.

        Of figures that were tested as a family none fails that may be the chance find of a long list.
        """
        if (self.least is None and self.most is None) or not (math.isfinite(self.low) and math.isfinite(self.high)):
            return Verdict.NOT_SHOWN
        least = self.least if self.least is not None else -math.inf
        most = self.most if self.most is not None else math.inf
        if self.low > most or self.high < least:
            return Verdict.NOT_SHOWN if self.p >= ALPHA else Verdict.FAILED
        return Verdict.PASSED if self.low >= least and self.high <= most else Verdict.NOT_SHOWN


def verdict_of(measures: Sequence[Measure]) -> Verdict:
    """That of a whole check: failed if one figure is, passed if all are, not shown without any."""
    verdicts = {measure.verdict for measure in measures}
    if Verdict.FAILED in verdicts:
        return Verdict.FAILED
    return Verdict.PASSED if verdicts == {Verdict.PASSED} else Verdict.NOT_SHOWN


def estimate(
    tallies_NT: FloatArray | Sequence[Sequence[float]],
    patients: Sequence[str],
    *,
    value_of: ValueOf,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """A figure made from sums over items, with its interval over patients; not a number without items.

    Args:
        tallies_NT: What each item adds to the sums.
        patients: Whom each item is about.
        value_of: From sums (..., T) to the figure (...).
        bounds: Least and greatest value the figure can have.
    """
    if not len(patients):
        return Estimate(math.nan, math.nan, math.nan, math.nan)
    order = sorted(set(patients))
    summed = sum_by_patient(np.asarray(tallies_NT, dtype=np.float64), patients, order=order)
    return bootstrap_estimate(
        summed, value_of=value_of, weights=_drawn_weights(len(order), seed=SEED), support=len(order), bounds=bounds
    )


def mean_estimate(
    values_N: FloatArray,
    patients: Sequence[str],
    *,
    counts_N: FloatArray | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """The mean of a value over items, with its interval over patients.

    Args:
        values_N: The value of each item.
        patients: Whom each item is about.
        counts_N: Whether each item counts (1) or not (0); all do unless given.
        bounds: Least and greatest value the mean can have.
    """
    counts_N = counts_N if counts_N is not None else np.ones(len(values_N))
    return estimate(
        np.stack([values_N * counts_N, counts_N], axis=1),
        patients,
        value_of=lambda totals: ratio(totals[..., 0], totals[..., 1]),
        bounds=bounds,
    )


def weighted_estimate(
    value_of: ValueOf, patients: Sequence[str], *, bounds: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """A figure that is no ratio of sums, with its interval over patients.

    Args:
        value_of: From weights of items (B, N) to the figure of each row (B,).
        patients: Whom each item is about.
        bounds: Least and greatest value the figure can have.
    """
    order = sorted(set(patients))
    places = {patient: place for place, patient in enumerate(order)}
    weights_BP = _drawn_weights(len(order), draws=RANKINGS, seed=SEED).astype(np.float64)
    drawn = value_of(weights_BP[:, [places[patient] for patient in patients]])
    value = float(value_of(np.ones((1, len(patients))))[0])
    return interval_of(value, drawn, patients=len(order), support=len(order), bounds=bounds)


def auroc_estimate(scores_N: FloatArray, positive_N: BoolArray, patients: Sequence[str]) -> Estimate:
    """The area under the ROC curve of a score, with its interval over patients.

    Args:
        scores_N: Higher for what is held to be positive.
        positive_N: What is.
        patients: Whom each item is about.
    """
    return ranking_estimate(weighted_auroc, scores_N, positive_N, patients)


class Ranking(Protocol):
    """A figure of a ranking for each row of item weights (B,)."""

    def __call__(self, scores_N: FloatArray, positive_N: BoolArray, weights_BN: FloatArray) -> FloatArray:
        """From the score of each item and what is positive."""
        ...


def ranking_estimate(figure: Ranking, scores_N: FloatArray, positive_N: BoolArray, patients: Sequence[str]) -> Estimate:
    """A figure of a ranking with its interval over patients.

    Args:
        figure: Which, such as `weighted_auroc`.
        scores_N: Higher for what is held to be positive.
        positive_N: What is.
        patients: Whom each item is about.
    """
    return weighted_estimate(lambda weights_BN: figure(scores_N, positive_N, weights_BN), patients)


def adjusted(measures: Sequence[Measure]) -> list[Measure]:
    """The same figures with their p-values adjusted (Holm) as one family."""
    return [replace(measure, p=p) for measure, p in zip(measures, holm([one.p for one in measures]), strict=True)]
