from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import fisher_exact, kstest, mannwhitneyu
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from mmmed.serving.monitoring import comparison

Draw = Callable[[np.random.Generator, int], np.ndarray]


def ones(generator: np.random.Generator, size: int) -> np.ndarray:
    return (generator.random(size) < 0.1).astype(float)


TESTS: dict[str, tuple[Callable[..., float], Draw]] = {
    "rate": (comparison.rate_p, ones),
    "more often": (comparison.more_often_p, ones),
    "smaller mean": (comparison.smaller_mean_p, lambda generator, size: generator.integers(0, 7, size) / 6),
    "mix": (comparison.mix_p, lambda generator, size: generator.choice(4, size, p=[0.6, 0.3, 0.09, 0.01])),
    "distribution": (comparison.distribution_p, lambda generator, size: generator.standard_normal(size)),
    "larger": (comparison.larger_p, lambda generator, size: generator.exponential(size=size)),
}


@pytest.mark.parametrize("name", TESTS)
def test_p_values_of_batches_among_all_before_are_uniform_and_independent(name: str) -> None:
    test, draw = TESTS[name]
    generator = np.random.default_rng(3)
    pairs = []
    for _ in range(150):
        values = draw(generator, 120)
        pairs.append([test(values[:end], values[end : end + 20], generator) for end in (80, 100)])
    first, second = np.array(pairs).T
    # Kolmogorov-Smirnov's own p-values take few values, and are too large rather than too small.
    discrete = name in {"distribution", "larger"}
    for each in (first, second):
        assert kstest(each, "uniform", alternative="greater" if discrete else "two-sided").pvalue > 0.002
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.25


def test_rates_are_compared_as_by_fisher() -> None:
    earlier, batch = np.repeat([1.0, 0.0], [10, 90]), np.repeat([1.0, 0.0], [9, 11])

    class Last:
        def random(self) -> float:
            return 0.0

    table = [[9, 11], [10, 90]]
    last: np.random.Generator = Last()  # type: ignore[assignment]
    assert comparison.rate_p(earlier, batch, last) == pytest.approx(fisher_exact(table).pvalue)
    greater = fisher_exact(table, alternative="greater").pvalue
    assert comparison.more_often_p(earlier, batch, last) == pytest.approx(greater)
    assert comparison.more_often_p(batch, earlier, last) == pytest.approx(1, abs=1e-3)


def test_changes_are_seen_each_in_its_direction() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal(300), generator.standard_normal(20)
    assert comparison.distribution_p(x, y + 2, generator) < 1e-6
    assert comparison.distribution_p(x, y - 2, generator) < 1e-6
    assert comparison.larger_p(x, y + 2, generator) < 1e-6
    assert comparison.larger_p(x, y - 2, generator) > 0.5
    shares = generator.integers(0, 7, 300) / 6
    assert comparison.smaller_mean_p(shares, np.zeros(20), generator) < 0.002
    assert comparison.smaller_mean_p(shares, np.ones(20), generator) > 0.9
    # A machine that was never there before.
    assert comparison.mix_p(np.zeros(300, int), np.repeat([0, 1], [10, 10]), generator) < 0.002


def test_long_histories_are_thinned_and_still_tested() -> None:
    generator = np.random.default_rng(0)
    assert comparison.distribution_p(generator.random(20_000), generator.random(20) + 2, generator) < 1e-20


def test_a_batch_that_looks_otherwise_is_told_apart_and_one_that_does_not_is_not() -> None:
    generator = np.random.default_rng(5)
    earlier = generator.standard_normal((200, 8))
    own = generator.standard_normal((20, 8))
    moved = comparison.domain(earlier, own + np.eye(8)[0] * 3, generator, draws=499)
    assert moved.p < 0.005
    assert moved.auroc > 0.9
    assert moved.scores_N[200:].mean() > moved.scores_N[:200].mean()
    ps = [
        comparison.domain(values[:100], values[100:], generator, draws=99).p
        for values in generator.standard_normal((150, 120, 8))
    ]
    assert kstest(ps, "uniform").pvalue > 0.002


def test_pictures_that_are_all_the_same_are_no_evidence() -> None:
    generator = np.random.default_rng(5)
    ps = [comparison.domain(np.ones((50, 4)), np.ones((10, 4)), generator, draws=49).p for _ in range(20)]
    assert 0.2 < np.mean(ps) < 0.8


def test_the_domain_classifier_is_ridge_regression() -> None:
    generator = np.random.default_rng(2)
    values, rest = generator.standard_normal((60, 5)), np.arange(10, 60)
    inside = np.arange(50, 60)[:, None]
    labels = np.isin(np.arange(60), inside).astype(float)
    known = Ridge(alpha=5.0).fit(values[rest], labels[rest]).coef_
    assert comparison._ridge(values, rest, inside)[:, 0] == pytest.approx(known)


def test_areas_are_those_of_others() -> None:
    generator = np.random.default_rng(2)
    scores = generator.integers(0, 5, (40, 3)).astype(float)
    own = scores[:6]
    for column, found in enumerate(comparison.area(scores, own)):
        assert found == pytest.approx(roc_auc_score(np.arange(40) < 6, scores[:, column]))
        wins = mannwhitneyu(scores[:6, column], scores[6:, column]).statistic
        assert found == pytest.approx(wins / (6 * 34))
