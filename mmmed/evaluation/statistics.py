"""How sure a figure is: intervals and tests that treat the patient, not the question, as the unit.

Everything works on sums of tallies (see `scorers.Metric`), so a resample is a row of patient weights and all
resamples are one matrix product.

Legend of array names: B draws, P patients, T tally columns.
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

FloatArray = NDArray[np.float64]
ValueOf = Callable[[FloatArray], FloatArray]

DRAWS = 2000
PERMUTATIONS = 5000
LEVEL = 0.95
POWER = 0.8

# Differences of the order of rounding are ties: without this the same split summed in two orders may differ.
_TIE = 1e-12
# Permutations are summed in blocks, so that memory stays at a few tens of megabytes for thousands of patients.
_BLOCK = 500


class Estimate(NamedTuple):
    """A figure with its 95 % interval; the limits are not numbers where there is nothing to resample."""

    value: float
    low: float
    high: float


def sum_by_patient(tallies: FloatArray, patients: Sequence[str], *, order: Sequence[str]) -> FloatArray:
    """Sum item tallies (items, T) within patients, (P, T), in the given order of patients."""
    index = {patient: number for number, patient in enumerate(order)}
    sums = np.zeros((len(order), tallies.shape[1]))
    np.add.at(sums, [index[patient] for patient in patients], tallies)
    return sums


def patient_weights(patients: int, *, draws: int = DRAWS, seed: int) -> FloatArray:
    """How often each patient is drawn in each bootstrap resample, (B, P); every row sums to the number of patients.

    One such matrix serves all arms and metrics of a task, which is what makes differences paired.

    Source: Field & Welsh 2007, J. R. Stat. Soc. B 69:369-390 (the cluster bootstrap).
    """
    generator = np.random.default_rng(seed)
    if not patients:
        return np.zeros((draws, 0))
    return generator.multinomial(patients, np.full(patients, 1 / patients), size=draws).astype(np.float64)


def bootstrap_estimate(tallies: FloatArray, *, value_of: ValueOf, weights: FloatArray, support: int) -> Estimate:
    """A figure with its percentile interval over resampled patients.

    Args:
        tallies: Summed by patient, (P, T).
        value_of: From totals to the figure, in [0, 1].
        weights: From `patient_weights`.
        support: Patients the figure rests on; widens an interval that resampling leaves without width.
    """
    value = float(value_of(tallies.sum(axis=0)))
    return interval_of(value, value_of(weights @ tallies), patients=len(tallies), support=support, bounds=(0.0, 1.0))


def paired_estimate(
    tallies: FloatArray, others: FloatArray, *, value_of: ValueOf, weights: FloatArray, support: int
) -> Estimate:
    """The difference of two arms on the same patients (first minus second), with its percentile interval.

    Args:
        tallies: Of the first arm, summed by patient, (P, T).
        others: Of the second arm, the same patients in the same order.
        value_of: From totals to the figure, in [0, 1].
        weights: From `patient_weights`; the same draws for both arms.
        support: Patients the figure rests on; widens an interval that resampling leaves without width.
    """
    value = float(value_of(tallies.sum(axis=0)) - value_of(others.sum(axis=0)))
    drawn = value_of(weights @ tallies) - value_of(weights @ others)
    return interval_of(value, drawn, patients=len(tallies), support=support, bounds=(-1.0, 1.0))


def permutation_p(
    tallies: FloatArray, others: FloatArray, *, value_of: ValueOf, permutations: int = PERMUTATIONS, seed: int
) -> float:
    """Two-sided p that two arms do not differ, by swapping their answers patient by patient.

    Not a number without patients; 1 where the arms are equal.

    Source: Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39, (1 + count) / (1 + permutations).
    """
    observed = abs(float(value_of(tallies.sum(axis=0)) - value_of(others.sum(axis=0))))
    if not math.isfinite(observed):
        return math.nan
    generator = np.random.default_rng(seed)
    own, total, moved = tallies.sum(axis=0), tallies.sum(axis=0) + others.sum(axis=0), others - tallies
    # Swapping equal answers changes nothing, so only the other patients need to be permuted.
    moved = moved[np.any(moved != 0, axis=1)]
    count = 0
    for start in range(0, permutations, _BLOCK):
        rows = min(_BLOCK, permutations - start)
        swapped = generator.integers(0, 2, size=(rows, len(moved))).astype(np.float64)
        first = own + swapped @ moved
        differences = value_of(first) - value_of(total - first)
        count += int(np.count_nonzero(np.abs(differences) >= observed - _TIE))
    return (1 + count) / (1 + permutations)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust a family of p-values so that the chance of any false claim stays at the level; NaN stays NaN.

    Source: Holm 1979, Scand. J. Stat. 6:65-70.
    """
    known = [p for p in ps if math.isfinite(p)]
    adjusted = iter(multipletests(known, method="holm")[1] if known else [])
    return [float(next(adjusted)) if math.isfinite(p) else math.nan for p in ps]


def minimum_detectable_difference(n: int, *, discordance: float, power: float = POWER, level: float = LEVEL) -> float:
    """Least difference of two proportions on the same n items that a test sees with the given power.

    Solves n = (z_a sqrt(s) + z_b sqrt(s - d^2))^2 / d^2 for d, where s is the discordance: the share of items on which
    exactly one of the two arms is right. Not a number where even a difference of s would go unseen.

    Source: Connor 1987, Biometrics 43:207-211, the sample-size formula for McNemar's test.
    """
    if n < 1 or not 0 < discordance <= 1:
        return math.nan
    z_a, z_b = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)
    root = z_a**2 * discordance * n - (n + z_b**2) * (z_a**2 - z_b**2) * discordance
    difference = (z_a * math.sqrt(discordance * n) + math.sqrt(max(root, 0.0))) / (n + z_b**2)
    return difference if difference <= discordance else math.nan


def detectable_from_interval(low: float, high: float, *, power: float = POWER, level: float = LEVEL) -> float:
    """Least difference a comparison as precise as this one sees with the given power.

    (z_a + z_b) times the standard error, which is read off the interval; so it heeds the metric and the clustering
    by patient, which the discordance alone does not.

    Source: Bloom 1995, Evaluation Review 19:547-556 (minimum detectable effect as a multiple of the standard error).
    """
    z_a, z_b = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)
    return (z_a + z_b) * (high - low) / (2 * z_a)


def interval_of(
    value: float, drawn: FloatArray, *, patients: int, support: int, bounds: tuple[float, float]
) -> Estimate:
    """Percentile limits; where all draws agree, limits that still admit what so few patients cannot rule out."""
    if patients < 2 or not math.isfinite(value):
        return Estimate(value, math.nan, math.nan)
    drawn = drawn[np.isfinite(drawn)]
    if np.ptp(drawn) > _TIE:
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(value, float(low), float(high))
    # Wilson's limit for no event among so many patients (Wilson 1927, J. Am. Stat. Assoc. 22:209-212): all answers
    # right, or two arms never apart, would otherwise get an interval of no width however few the patients.
    unseen = _Z2 / (support + _Z2)
    return Estimate(value, max(bounds[0], value - unseen), min(bounds[1], value + unseen))


_Z2 = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
