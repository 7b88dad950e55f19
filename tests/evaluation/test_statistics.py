"""Intervals and tests against closed forms and simulations."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from mmmed.evaluation.metrics.catalogue import METRICS, classes_of
from mmmed.evaluation.metrics.tally import FloatArray, Judged
from mmmed.evaluation.significance import (
    detectable_from_interval,
    holm,
    minimum_detectable_difference,
    permutation_p,
)
from mmmed.evaluation.statistics import (
    bootstrap_estimate,
    paired_estimate,
    patient_weights,
    sum_by_patient,
)

ACCURACY = METRICS["accuracy"]


def hits(*right: float) -> FloatArray:
    """Tallies of an accuracy with one item per patient."""
    return np.stack([np.array(right, dtype=np.float64), np.ones(len(right))], axis=1)


def test_every_resample_draws_as_many_patients_as_there_are() -> None:
    weights = patient_weights(17, draws=50, seed=1)
    assert weights.shape == (50, 17)
    assert (weights.sum(axis=1) == 17).all()
    assert (patient_weights(17, draws=50, seed=1) == weights).all()
    assert (patient_weights(17, draws=50, seed=2) != weights).any()


def test_items_are_summed_within_their_patient() -> None:
    sums = sum_by_patient(hits(1, 0, 1), ["b", "a", "b"], order=["a", "b"])
    assert sums.tolist() == [[0, 1], [2, 2]]


def test_the_interval_of_an_accuracy_agrees_with_the_normal_and_with_wilson() -> None:
    n, right = 400, 300
    estimate = bootstrap_estimate(
        hits(*[1] * right, *[0] * (n - right)),
        value_of=ACCURACY.value,
        weights=patient_weights(n, draws=4000, seed=0),
        support=n,
    )
    assert estimate.value == 0.75
    for method in ("normal", "wilson"):
        low, high = proportion_confint(right, n, method=method)
        assert estimate.low == pytest.approx(low, abs=0.006)
        assert estimate.high == pytest.approx(high, abs=0.006)


def test_the_interval_heeds_that_a_patients_questions_belong_together() -> None:
    patients = [str(i // 10) for i in range(400)]
    right = hits(*[float((i // 10) % 2) for i in range(400)])
    tallies = sum_by_patient(right, patients, order=sorted(set(patients)))
    clustered = bootstrap_estimate(tallies, value_of=ACCURACY.value, weights=patient_weights(40, seed=0), support=40)
    # Ten identical answers per patient are worth 40 observations, not 400.
    low, high = proportion_confint(20, 40, method="normal")
    assert clustered.high - clustered.low == pytest.approx(high - low, abs=0.03)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    weights = patient_weights(80, draws=500, seed=0)
    covered = 0
    for _ in range(200):
        chance = generator.beta(7, 3, size=80)
        tallies = np.stack([generator.binomial(3, chance), np.full(80, 3)], axis=1).astype(np.float64)
        estimate = bootstrap_estimate(tallies, value_of=ACCURACY.value, weights=weights, support=80)
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.90 <= covered / 200 <= 0.985


def test_a_difference_is_paired() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(300) < 0.5
    first, second = hits(*hard.astype(float)), hits(*hard.astype(float))
    second[:15, 0] = 0.0
    weights = patient_weights(300, seed=0)
    paired = paired_estimate(first, second, value_of=ACCURACY.value, weights=weights, support=300)
    alone = bootstrap_estimate(first, value_of=ACCURACY.value, weights=weights, support=300)
    lost = first[:15, 0].sum() / 300
    assert paired.value == pytest.approx(lost)
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * math.sqrt(lost * (1 - lost) / 300), abs=0.008)
    assert paired.high - paired.low < (alone.high - alone.low) / 2


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_answers_get_wilsons_interval_and_not_one_of_no_width(value: float) -> None:
    estimate = bootstrap_estimate(
        hits(*[value] * 20), value_of=ACCURACY.value, weights=patient_weights(20, seed=0), support=20
    )
    low, high = proportion_confint(20 * value, 20, method="wilson")
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_a_class_metric_rests_on_the_rarest_class() -> None:
    items = [Judged("yes", "yes", str(i)) for i in range(30)] + [Judged("no", "no", f"n{i}") for i in range(4)]
    metric = METRICS["balanced_accuracy"]
    assert metric.support(metric.tally(items, classes_of(items))) == 4
    assert metric.support(metric.tally([], [])) == 0


def test_equal_arms_have_no_difference_and_p_of_one() -> None:
    same = hits(1, 0, 1, 1, 0)
    estimate = paired_estimate(same, same, value_of=ACCURACY.value, weights=patient_weights(5, seed=0), support=5)
    assert estimate.value == 0
    assert estimate.low < 0 < estimate.high
    assert permutation_p(same, same, value_of=ACCURACY.value, seed=0) == 1.0


def test_one_patient_has_a_value_but_no_interval() -> None:
    one = hits(1)
    estimate = bootstrap_estimate(one, value_of=ACCURACY.value, weights=patient_weights(1, seed=0), support=1)
    assert estimate.value == 1
    assert math.isnan(estimate.low) and math.isnan(estimate.high)
    assert permutation_p(one, hits(0), value_of=ACCURACY.value, seed=0) == 1.0


def test_no_patients_have_neither_value_nor_p() -> None:
    none = hits()
    estimate = paired_estimate(none, none, value_of=ACCURACY.value, weights=patient_weights(0, seed=0), support=0)
    assert all(math.isnan(figure) for figure in estimate)
    assert math.isnan(permutation_p(none, none, value_of=ACCURACY.value, seed=0))


def test_the_permutation_p_agrees_with_the_exact_test_of_discordant_pairs() -> None:
    first, second = hits(*[1] * 14, *[0] * 5, *[1] * 40), hits(*[0] * 14, *[1] * 5, *[1] * 40)
    p = permutation_p(first, second, value_of=ACCURACY.value, permutations=20000, seed=0)
    assert p == pytest.approx(binomtest(14, 19).pvalue, abs=0.01)
    assert p == permutation_p(second, first, value_of=ACCURACY.value, permutations=20000, seed=0)


def test_p_values_are_even_where_nothing_differs() -> None:
    generator = np.random.default_rng(1)
    ps = np.array(
        [
            permutation_p(
                hits(*generator.integers(0, 2, 60)),
                hits(*generator.integers(0, 2, 60)),
                value_of=ACCURACY.value,
                permutations=199,
                seed=int(generator.integers(1000)),
            )
            for _ in range(300)
        ]
    )
    # Three standard errors above the level; ties between whole counts make the test somewhat conservative.
    for level in (0.05, 0.2, 0.5):
        assert (ps <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / 300)
    assert (ps <= 0.5).mean() > 0.35


def test_holm_multiplies_the_least_p_by_the_size_of_the_family_and_passes_over_nan() -> None:
    assert holm([0.01, math.nan, 0.04, 0.03])[0::2] == pytest.approx([0.03, 0.06])
    assert math.isnan(holm([0.01, math.nan])[1])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_is_that_of_statsmodels() -> None:
    family = np.random.default_rng(0).uniform(size=60) ** 3
    assert holm(family) == list(multipletests(family, method="holm")[1])


@pytest.mark.parametrize(("n", "points"), [(500, 5.6), (1273, 3.5), (4183, 1.9), (251, 7.9)])
def test_the_detectable_difference_is_that_of_connors_formula(n: int, points: float) -> None:
    difference = minimum_detectable_difference(n, discordance=0.2)
    assert 100 * difference == pytest.approx(points, abs=0.05)
    z_a, z_b = 1.959964, 0.841621
    needed = (z_a * math.sqrt(0.2) + z_b * math.sqrt(0.2 - difference**2)) ** 2 / difference**2
    assert needed == pytest.approx(n, rel=1e-5)


def test_too_few_items_can_detect_nothing() -> None:
    assert math.isnan(minimum_detectable_difference(5, discordance=0.1))
    assert math.isnan(minimum_detectable_difference(0, discordance=0.1))
    assert math.isnan(minimum_detectable_difference(100, discordance=0.0))


def test_the_detectable_difference_from_an_interval_is_that_of_its_standard_error() -> None:
    assert detectable_from_interval(-0.0196, 0.0196) == pytest.approx(0.0280, abs=1e-4)
