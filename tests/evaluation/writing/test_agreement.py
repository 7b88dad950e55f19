"""Krippendorff's alpha against the worked examples that he published (Computing Krippendorff's Alpha-Reliability)."""

import numpy as np
import pytest

from mmmed.evaluation.writing.agreement import Level, alpha_estimate, krippendorff_alpha

NONE = float("nan")
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
).T
TWO_OBSERVERS = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], dtype=float).T
FIVE_NAMES = np.array([[1, 1, 2, 2, 4, 3, 3, 3, 5, 4, 4, 1], [2, 1, 2, 2, 2, 3, 3, 3, 5, 4, 4, 4]], dtype=float).T


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_of_four_observers_with_gaps_is_the_published_one(level: Level, alpha: float) -> None:
    assert krippendorff_alpha(FOUR_OBSERVERS, level=level) == pytest.approx(alpha, abs=5e-4)


@pytest.mark.parametrize(("ratings", "alpha"), [(TWO_OBSERVERS, 0.095), (FIVE_NAMES, 0.692)])
def test_alpha_of_two_observers_is_the_published_one(ratings: np.ndarray, alpha: float) -> None:
    assert krippendorff_alpha(ratings, level="nominal") == pytest.approx(alpha, abs=5e-4)


def test_alpha_is_1_where_all_agree_and_about_0_by_chance() -> None:
    same = np.repeat(np.array([[1.0], [3.0], [5.0]]), 2, axis=1)
    assert krippendorff_alpha(same, level="ordinal") == 1
    chance = np.random.default_rng(0).integers(1, 6, (3000, 2)).astype(float)
    assert krippendorff_alpha(chance, level="ordinal") == pytest.approx(0, abs=0.05)


def test_alpha_is_no_number_where_nobody_could_have_disagreed() -> None:
    assert np.isnan(krippendorff_alpha(np.ones((4, 2)), level="nominal"))


def test_the_interval_holds_the_value() -> None:
    estimate = alpha_estimate(FOUR_OBSERVERS, level="ordinal")
    assert estimate.low < estimate.value < estimate.high <= 1
