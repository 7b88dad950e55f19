"""How sure a figure is: intervals that treat the patient, not the question, as the unit.

Everything works on sums of tallies (see `metrics.tally`), so a resample is a row of patient weights and all
resamples are a few matrix products. Why each method was chosen stands in docs/statistics.md.

Legend of array names: B draws, P patients, T tally columns.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

FloatArray = NDArray[np.float64]
ValueOf = Callable[[FloatArray], FloatArray]

DRAWS = 10_000
LEVEL = 0.95

# Differences of the order of rounding are ties: without this the same split summed in two orders may differ.
TIE = 1e-12
# Weights are summed in blocks, so that memory stays at a few tens of megabytes for thousands of patients.
_BLOCK = 500


class Estimate(NamedTuple):
    """A figure with its 95 % interval; the limits are not numbers where there is nothing to resample.

    The standard error is that over patients; 0 where all resamples agree, not a number without resamples.
    """

    value: float
    low: float
    high: float
    error: float


class Spread(NamedTuple):
    """How a figure differs between runs that differ in nothing but their seed."""

    runs: int
    mean: float
    deviation: float
    least: float
    most: float


def sum_by_patient(tallies: FloatArray, patients: Sequence[str], *, order: Sequence[str]) -> FloatArray:
    """Sum item tallies (items, T) within patients, (P, T), in the given order of patients."""
    index = {patient: number for number, patient in enumerate(order)}
    sums = np.zeros((len(order), tallies.shape[1]))
    np.add.at(sums, [index[patient] for patient in patients], tallies)
    return sums


def patient_weights(patients: int, *, draws: int = DRAWS, seed: int) -> NDArray[np.uint16]:
    """How often each patient is drawn in each bootstrap resample, (B, P); every row sums to the number of patients.

    One such matrix serves all arms and metrics of a task, which is what makes differences paired.

    Source: Field & Welsh 2007, J. R. Stat. Soc. B 69:369-390 (the cluster bootstrap).
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((draws, patients), dtype=np.uint16)
    for start in range(0, draws if patients else 0, _BLOCK):
        rows = min(_BLOCK, draws - start)
        drawn = generator.integers(0, patients, size=(rows, patients), dtype=np.int32)
        places = (drawn + patients * np.arange(rows, dtype=np.int32)[:, None]).ravel()
        counts = np.bincount(places, minlength=rows * patients)
        weights[start : start + rows] = counts.reshape(rows, patients)
    return weights


def drawn_totals(weights: NDArray[np.uint16], tallies: FloatArray) -> FloatArray:
    """Totals of each resample, (B, T)."""
    totals = np.empty((len(weights), tallies.shape[1]))
    for start in range(0, len(weights), _BLOCK):
        totals[start : start + _BLOCK] = weights[start : start + _BLOCK].astype(np.float64) @ tallies
    return totals


def bootstrap_estimate(
    tallies: FloatArray,
    *,
    value_of: ValueOf,
    weights: NDArray[np.uint16],
    support: int,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """A figure with its interval over resampled patients.

    Args:
        tallies: Summed by patient, (P, T).
        value_of: From totals to the figure.
        weights: From `patient_weights`.
        support: Patients the figure rests on; widens an interval that resampling leaves without width.
        bounds: Least and greatest value the figure can have.
    """
    total = tallies.sum(axis=0)
    return interval_of(
        float(value_of(total)),
        value_of(drawn_totals(weights, tallies)),
        left_out=value_of(total - tallies),
        patients=len(tallies),
        support=support,
        bounds=bounds,
    )


def paired_estimate(
    tallies: FloatArray, others: FloatArray, *, value_of: ValueOf, weights: NDArray[np.uint16], support: int
) -> Estimate:
    """The difference of two arms on the same patients (first minus second), with its interval.

    Args:
        tallies: Of the first arm, summed by patient, (P, T).
        others: Of the second arm, the same patients in the same order.
        value_of: From totals to the figure, in [0, 1].
        weights: From `patient_weights`; the same draws for both arms.
        support: Patients the figure rests on; widens an interval that resampling leaves without width.
    """
    columns = tallies.shape[1]

    def difference(totals: FloatArray) -> FloatArray:
        return value_of(totals[..., :columns]) - value_of(totals[..., columns:])

    both = np.hstack([tallies, others])
    total = both.sum(axis=0)
    return interval_of(
        float(difference(total)),
        difference(drawn_totals(weights, both)),
        left_out=difference(total - both),
        patients=len(tallies),
        support=support,
        bounds=(-1.0, 1.0),
    )


def interval_of(
    value: float,
    drawn: FloatArray,
    *,
    patients: int,
    support: int,
    bounds: tuple[float, float],
    left_out: FloatArray | None = None,
) -> Estimate:
    """BCa limits with quantiles of Student's t; where all draws agree, what so few patients cannot rule out.

    Args:
        value: The figure of all patients.
        drawn: The figure of each resample, (B,).
        patients: How many there are.
        support: How many of them the figure rests on.
        bounds: Least and greatest value the figure can have.
        left_out: The figure without each patient in turn, (P,); without it, only bias is corrected (BC).
    """
    if patients < 2 or not math.isfinite(value):
        return Estimate(value, math.nan, math.nan, math.nan)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) and np.ptp(drawn) > TIE:
        low, high = bca_limits(value, drawn, left_out=left_out, z=widened_z(patients))
        # A bootstrap over P patients has the variance of P, not P - 1, in its denominator.
        error = float(drawn.std(ddof=1)) * math.sqrt(patients / (patients - 1))
        return Estimate(value, low, high, error)
    # Wilson's limit for no event among so many patients (Wilson 1927, J. Am. Stat. Assoc. 22:209-212): all answers
    # right, or two arms never apart, would otherwise get an interval of no width however few the patients.
    unseen = _Z2 / (support + _Z2)
    return Estimate(value, max(bounds[0], value - unseen), min(bounds[1], value + unseen), 0.0)


def bca_limits(
    value: float, drawn: FloatArray, *, left_out: FloatArray | None = None, z: float | None = None
) -> tuple[float, float]:
    """Limits at quantiles of the draws that are moved for their bias and skewness (BCa).

    Source: Efron 1987, J. Am. Stat. Assoc. 82:171-185; the skewness is that of the jackknife over patients.
    """
    reach = z if z is not None else NormalDist().inv_cdf((1 + LEVEL) / 2)
    below = (np.count_nonzero(drawn < value - TIE) + np.count_nonzero(drawn <= value + TIE)) / (2 * len(drawn))
    bias = float(ndtri(min(max(below, 0.5 / len(drawn)), 1 - 0.5 / len(drawn))))
    skewness = 0.0
    if left_out is not None and np.isfinite(left_out).all():
        pulls = left_out.mean() - left_out
        size = float((pulls**2).sum())
        skewness = float((pulls**3).sum()) / (6 * size**1.5) if size > TIE**2 else 0.0
    moved = [bias + (bias + side) / (1 - skewness * (bias + side)) for side in (-reach, reach)]
    low, high = np.quantile(drawn, [float(ndtr(each)) for each in moved])
    return float(low), float(high)


def widened_z(patients: int, *, level: float = LEVEL) -> float:
    """How many standard errors an interval reaches when the error was itself estimated from few patients.

    Source: Hesterberg 2015, Am. Stat. 69:371-386, section 5.3 (quantiles of t, and the factor n / (n - 1)).
    """
    return float(student.ppf((1 + level) / 2, patients - 1)) * math.sqrt(patients / (patients - 1))


def spread_of(values: Sequence[float]) -> Spread:
    """The spread of a figure over runs with other seeds; no deviation of a single run."""
    deviation = stdev(values) if len(values) > 1 else math.nan
    return Spread(len(values), fmean(values), deviation, min(values), max(values))


_Z2 = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
