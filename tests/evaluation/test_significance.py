"""Tests keep their level, intervals their promise and comparisons their power, on data with several items a patient."""

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, bootstrap, norm

from mmmed.evaluation.metrics.catalogue import METRICS
from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.evaluation.significance import (
    detectable,
    equivalence_p,
    mcnemar_p,
    minimum_detectable_difference,
    no_worse_p,
    permutation_p,
)
from mmmed.evaluation.statistics import (
    Estimate,
    bca_limits,
    bootstrap_estimate,
    paired_estimate,
    patient_weights,
    spread_of,
    widened_z,
)

ACCURACY = METRICS["accuracy"]
SIMULATIONS = 1000
# A true rate of 5 % gives at most so many of the simulations in 99 of 100 repetitions.
MOST_REJECTED = int(binom.ppf(0.99, SIMULATIONS, 0.05))


def tallies(right: FloatArray, items: FloatArray) -> FloatArray:
    return np.stack([right, items], axis=-1).astype(np.float64)


def test_the_limits_are_those_of_scipy_for_the_same_draws() -> None:
    generator = np.random.default_rng(0)
    sample = generator.exponential(size=40)
    result = bootstrap((sample,), np.mean, n_resamples=2000, method="BCa", rng=generator)
    left_out = (sample.sum() - sample) / 39
    limits = bca_limits(float(sample.mean()), result.bootstrap_distribution, left_out=left_out)
    assert limits == pytest.approx(tuple(result.confidence_interval), abs=1e-9)


def test_our_own_draws_give_the_limits_of_scipy_within_their_noise() -> None:
    generator = np.random.default_rng(1)
    right = (generator.random(150) < 0.9).astype(float)
    result = bootstrap((right,), np.mean, n_resamples=5000, method="BCa", rng=generator)
    each = tallies(right, np.ones(150))
    drawn = ACCURACY.value(patient_weights(150, draws=5000, seed=0) @ each)
    limits = bca_limits(right.mean(), drawn, left_out=ACCURACY.value(each.sum(0) - each))
    assert limits == pytest.approx(tuple(result.confidence_interval), abs=0.008)


def test_few_patients_widen_an_interval_and_many_do_not() -> None:
    assert widened_z(5) > 3
    assert widened_z(5000) == pytest.approx(norm.ppf(0.975), abs=0.002)


@pytest.mark.parametrize("patients", [15, 60])
def test_the_interval_covers_the_truth_in_93_to_97_of_100_simulations(patients: int) -> None:
    generator = np.random.default_rng(patients)
    weights = patient_weights(patients, draws=1000, seed=0)
    covered = np.zeros(2)
    for _ in range(SIMULATIONS):
        items = generator.integers(1, 9, patients)
        ease = generator.beta(7, 3, patients)  # of mean 0.7, shared by all questions about a patient
        first = tallies(generator.binomial(items, ease), items)
        second = tallies(generator.binomial(items, ease * 6 / 7), items)
        alone = bootstrap_estimate(first, value_of=ACCURACY.value, weights=weights, support=patients)
        paired = paired_estimate(first, second, value_of=ACCURACY.value, weights=weights, support=patients)
        covered += (alone.low <= 0.7 <= alone.high), (paired.low <= 0.1 <= paired.high)
    assert (covered / SIMULATIONS >= 0.93).all() and (covered / SIMULATIONS <= 0.97).all(), covered


def null_arms(generator: np.random.Generator, *, patients: int) -> tuple[FloatArray, FloatArray, int, int]:
    """Two arms that are equally good, each with its own luck with each patient; tallies and discordant items."""
    items = generator.integers(1, 13, patients)
    ease = generator.normal(0.5, 1.0, patients)
    of = np.repeat(np.arange(patients), items)
    right = [generator.random(len(of)) < expit(ease + generator.normal(0, 1.0, patients))[of] for _ in range(2)]
    sums = [tallies(np.bincount(of, weights=each, minlength=patients), items) for each in right]
    return sums[0], sums[1], int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())


@pytest.mark.parametrize("patients", [12, 60])
def test_equal_arms_are_told_apart_in_no_more_than_5_of_100_simulations(patients: int) -> None:
    generator = np.random.default_rng(patients)
    rejected = 0
    for seed in range(SIMULATIONS):
        first, second, *_ = null_arms(generator, patients=patients)
        rejected += permutation_p(first, second, value_of=ACCURACY.value, permutations=499, seed=seed) <= 0.05
    assert rejected <= MOST_REJECTED, rejected


def test_mcnemar_rejects_too_often_where_a_patient_has_many_items_which_is_why_it_is_not_used_there() -> None:
    generator = np.random.default_rng(0)
    ps = [mcnemar_p(*null_arms(generator, patients=60)[2:]) for _ in range(SIMULATIONS)]
    assert np.mean(np.array(ps) <= 0.05) > 0.10


def test_mcnemar_is_the_exact_test_of_the_discordant_items() -> None:
    assert mcnemar_p(14, 5) == pytest.approx(2 * binom.cdf(5, 19, 0.5))
    assert mcnemar_p(0, 0) == 1.0


@pytest.mark.parametrize(("n", "points"), [(500, 5.6), (1273, 3.5), (4183, 1.9), (251, 7.9)])
def test_the_tabulated_difference_is_seen_in_80_of_100_simulations(n: int, points: float) -> None:
    difference = minimum_detectable_difference(n, discordance=0.2)
    assert 100 * difference == pytest.approx(points, abs=0.05)
    generator = np.random.default_rng(n)
    only_first = (0.2 + difference) / 2
    cells = generator.multinomial(n, [only_first, 0.2 - only_first, 0.8], size=SIMULATIONS)
    seen = np.mean([mcnemar_p(int(first), int(second)) <= 0.05 for first, second, _ in cells])
    # The exact test is somewhat conservative; three standard errors of a simulated rate are 0.038.
    assert 0.75 <= seen <= 0.84


def test_the_permutation_test_sees_the_tabulated_difference_of_vqa_rad_with_80_percent_power() -> None:
    generator = np.random.default_rng(0)
    n, runs = 251, 300
    difference = minimum_detectable_difference(n, discordance=0.2)
    only_first = (0.2 + difference) / 2
    seen = 0
    for seed in range(runs):
        kind = generator.choice(3, size=n, p=[only_first, 0.2 - only_first, 0.8])
        both = generator.random(n) < 0.6
        first = tallies(np.where(kind == 2, both, kind == 0), np.ones(n))
        second = tallies(np.where(kind == 2, both, kind == 1), np.ones(n))
        seen += permutation_p(first, second, value_of=ACCURACY.value, permutations=499, seed=seed) <= 0.05
    assert 0.72 <= seen / runs <= 0.87, seen


def test_the_detectable_difference_of_a_comparison_is_the_tabulated_one_where_items_are_independent() -> None:
    generator = np.random.default_rng(3)
    kind = generator.permutation(np.repeat([0, 1, 2], [50, 50, 400]))
    first, second = (tallies((kind == arm) | (kind == 2), np.ones(500)) for arm in (0, 1))
    estimate = paired_estimate(
        first, second, value_of=ACCURACY.value, weights=patient_weights(500, draws=4000, seed=0), support=500
    )
    assert 100 * detectable(estimate, patients=500) == pytest.approx(5.6, abs=0.15)


def test_clustering_raises_the_detectable_difference() -> None:
    generator = np.random.default_rng(4)
    items = np.full(50, 10)
    luck = generator.integers(0, 2, 50) * 10
    first, second = tallies(luck, items), tallies(10 - luck, items)
    weights = patient_weights(50, draws=2000, seed=0)
    clustered = paired_estimate(first, second, value_of=ACCURACY.value, weights=weights, support=50)
    assert detectable(clustered, patients=50) > 2.5 * minimum_detectable_difference(500, discordance=1.0)


def test_arms_that_never_differed_could_still_have_hidden_a_difference() -> None:
    same = tallies(np.ones(30), np.ones(30))
    estimate = paired_estimate(
        same, same, value_of=ACCURACY.value, weights=patient_weights(30, draws=100, seed=0), support=30
    )
    assert estimate.error == 0
    assert detectable(estimate, patients=30) > 0.1
    assert math.isnan(equivalence_p(estimate, margin=0.05, patients=30))


def test_two_one_sided_tests_claim_equality_only_within_the_margin() -> None:
    close = Estimate(0.005, -0.015, 0.025, 0.01)
    assert equivalence_p(close, margin=0.05, patients=500) < 0.001
    assert equivalence_p(close, margin=0.01, patients=500) > 0.05
    # The 90 % interval reaches exactly the margin where p is .05.
    edge = 0.005 + 1.6479 * 0.01
    assert equivalence_p(close, margin=edge, patients=500) == pytest.approx(0.05, abs=1e-3)


def test_no_worse_is_one_sided_and_a_better_arm_is_no_worse() -> None:
    better = Estimate(0.1, 0.08, 0.12, 0.01)
    assert no_worse_p(better, margin=0.02, patients=100) < 1e-6
    assert equivalence_p(better, margin=0.02, patients=100) > 0.99
    assert no_worse_p(better._replace(value=-0.1), margin=0.02, patients=100) > 0.99


def test_the_spread_of_runs_is_their_standard_deviation() -> None:
    spread = spread_of([0.6, 0.7, 0.8])
    assert (spread.runs, spread.least, spread.most) == (3, 0.6, 0.8)
    assert (spread.mean, spread.deviation) == pytest.approx((0.7, 0.1))
    assert math.isnan(spread_of([0.5]).deviation)
