"""Whether two arms differ, are as good as equal, and what difference would have been seen.

Legend of array names: P patients, T tally columns.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

from mmmed.evaluation.statistics import LEVEL, TIE, Estimate, FloatArray, ValueOf

PERMUTATIONS = 10_000
POWER = 0.8

# Permutations are summed in blocks, so that memory stays at a few tens of megabytes for thousands of patients.
_BLOCK = 500


def permutation_p(
    tallies: FloatArray, others: FloatArray, *, value_of: ValueOf, permutations: int = PERMUTATIONS, seed: int
) -> float:
    """Two-sided p that two arms do not differ, by swapping their answers patient by patient.

    Not a number without patients; 1 where the arms are equal. A patient's answers are swapped together, so the test
    keeps its level however much the questions about one patient hang together.

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
        swapped = generator.integers(0, 2, size=(rows, len(moved)), dtype=np.int8).astype(np.float64)
        first = own + swapped @ moved
        differences = value_of(first) - value_of(total - first)
        count += int(np.count_nonzero(np.abs(differences) >= observed - TIE))
    return (1 + count) / (1 + permutations)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided p from the items on which one of two arms alone is right; 1 where there are none.

    Holds for independent items only. Several questions about one patient are not independent, and the test then
    rejects too often: use `permutation_p`, which is its counterpart for clusters.

    Source: McNemar 1947, Psychometrika 12:153-157; exact by the binomial distribution.
    """
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust a family of p-values so that the chance of any false claim stays at the level; NaN stays NaN.

    Source: Holm 1979, Scand. J. Stat. 6:65-70.
    """
    adjusted = np.array(ps, dtype=np.float64)
    order = np.argsort(adjusted)[: len(adjusted) - np.isnan(adjusted).sum()]  # those that are not numbers come last
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(steps).clip(max=1.0)
    return [float(p) for p in adjusted]


def no_worse_p(difference: Estimate, *, margin: float, patients: int) -> float:
    """One-sided p that the first arm is worse than the second by the margin or more: the claim "no worse".

    Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680 (one of the two one-sided tests).
    """
    return _one_sided(difference.value + margin, difference, patients=patients)


def equivalence_p(difference: Estimate, *, margin: float, patients: int) -> float:
    """P that two arms differ by the margin or more, by two one-sided tests: the claim "as good as equal".

    Below .05 the 90 % interval of the difference lies within the margin on both sides. Not a number where resamples
    do not vary, since then nothing is known of the error.

    Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680 (two one-sided tests, TOST).
    """
    return max(
        _one_sided(difference.value + margin, difference, patients=patients),
        _one_sided(margin - difference.value, difference, patients=patients),
    )


def _one_sided(distance: float, difference: Estimate, *, patients: int) -> float:
    if patients < 2 or not difference.error > 0 or not math.isfinite(distance):
        return math.nan
    return float(student.sf(distance / difference.error, patients - 1))


def detectable(difference: Estimate, *, patients: int, power: float = POWER, level: float = LEVEL) -> float:
    """Least difference this comparison would have seen with the given power.

    (t_a + t_b) times the standard error of the paired difference over patients; so it heeds the metric, the pairing
    and the clustering. Where the two arms never differed it is read off the interval instead.

    Source: Bloom 1995, Evaluation Review 19:547-556 (minimum detectable effect as a multiple of the standard error).
    """
    if patients < 2 or not math.isfinite(difference.high - difference.low):
        return math.nan
    if difference.error > 0:
        t_a, t_b = student.ppf((1 + level) / 2, patients - 1), student.ppf(power, patients - 1)
        return float((t_a + t_b) * difference.error)
    return detectable_from_interval(difference.low, difference.high, power=power, level=level)


def detectable_from_interval(low: float, high: float, *, power: float = POWER, level: float = LEVEL) -> float:
    """The same read off an interval, where the standard error is not kept."""
    z_a, z_b = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)
    return (z_a + z_b) * (high - low) / (2 * z_a)


def minimum_detectable_difference(n: int, *, discordance: float, power: float = POWER, level: float = LEVEL) -> float:
    """Least difference of two proportions on the same n independent items that a test sees, for planning.

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
