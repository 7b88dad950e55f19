"""Ranks against closed forms: the area counts pairs, and ties are neither won nor lost."""

from math import comb

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmmed.evaluation.ranking import chance, recall_at, weighted_auroc


@pytest.mark.parametrize("levels", [3, 1000])
def test_the_area_is_that_of_scikit_learn_with_weights_and_ties(levels: int) -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, levels, 60) / levels
    positive = generator.random(60) < 0.4
    weights = generator.integers(0, 4, (5, 60)).astype(float)
    expected = [roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_auroc(scores, positive, weights), expected)


def test_the_area_of_equal_scores_is_a_half_and_of_one_class_no_number() -> None:
    positive = np.array([True, False, True])
    assert weighted_auroc(np.zeros(3), positive, np.ones((1, 3))) == [0.5]
    assert np.isnan(weighted_auroc(np.arange(3.0), positive, np.array([[1.0, 0.0, 1.0]]))).all()


def test_guessing_finds_as_combinatorics_says() -> None:
    found = chance(np.array([10, 10, 5, 5, 4]), np.array([1, 3, 2, 5, 1]), np.array([1, 4, 4, 1, 9]))
    none = [comb(9, 1) / comb(10, 1), comb(7, 4) / comb(10, 4), 0, 0, 0]
    np.testing.assert_allclose(found, [1 - one for one in none])
    np.testing.assert_allclose(chance(np.array([7]), np.array([2]), np.array([0])), [0])


def test_recall_without_ties_is_the_rank_of_the_best_right_candidate() -> None:
    similarity = np.array([[0.9, 0.8, 0.7, 0.1], [0.1, 0.5, 0.6, 0.7], [0.3, 0.2, 0.1, 0.0]])
    right = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]).astype(bool)
    assert recall_at(similarity, right, most=1).tolist() == [0, 0, 0]
    assert recall_at(similarity, right, most=2).tolist() == [1, 1, 0]
    assert recall_at(similarity, right, most=4).tolist() == [1, 1, 1]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_recall_with_ties_is_the_mean_over_all_orders(most: int) -> None:
    similarity = np.array([[0.5, 0.5, 0.9, 0.5, 0.1]])
    right = np.array([[True, False, False, True, True]])
    generator = np.random.default_rng(1)
    drawn = []
    for _ in range(4000):
        order = np.lexsort((generator.random(5), -similarity[0]))
        drawn.append(right[0][order[:most]].any())
    assert recall_at(similarity, right, most=most)[0] == pytest.approx(np.mean(drawn), abs=0.03)


def test_a_model_that_sees_nothing_retrieves_at_chance() -> None:
    right = np.eye(8, dtype=bool)
    np.testing.assert_allclose(recall_at(np.zeros((8, 8)), right, most=3), 3 / 8)
