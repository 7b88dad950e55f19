"""Figures of rankings by hand, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_curve

from mmmed.evaluation.ranking import weighted_false_alarms, weighted_found, weighted_precision_area

ONES = np.ones((1, 6))
SCORES = np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
POSITIVE = np.array([True, True, False, True, False, False])


def test_shares_by_hand() -> None:
    assert weighted_found(SCORES, POSITIVE, ONES, false_alarms=0.0)[0] == pytest.approx(2 / 3)
    assert weighted_found(SCORES, POSITIVE, ONES, false_alarms=0.34)[0] == 1.0
    assert weighted_found(-SCORES, POSITIVE, ONES, false_alarms=0.0)[0] == 0.0
    assert weighted_false_alarms(SCORES, POSITIVE, ONES, found=0.95)[0] == pytest.approx(1 / 3)
    assert weighted_false_alarms(SCORES, POSITIVE, ONES, found=0.5)[0] == 0.0
    tied = np.zeros(6)
    assert weighted_found(tied, POSITIVE, ONES, false_alarms=0.5)[0] == 0.0
    assert weighted_false_alarms(tied, POSITIVE, ONES, found=0.1)[0] == 1.0


def test_they_equal_scikit_learn_with_weights_and_ties() -> None:
    generator = np.random.default_rng(0)
    scores, positive = generator.integers(0, 12, 80).astype(float), generator.random(80) < 0.4
    weights = generator.integers(0, 3, (1, 80)).astype(float)
    areas = weighted_precision_area(scores, positive, weights)
    assert areas[0] == pytest.approx(average_precision_score(positive, scores, sample_weight=weights[0]))
    alarms, found, _ = roc_curve(positive, scores, sample_weight=weights[0], drop_intermediate=False)
    assert weighted_found(scores, positive, weights, false_alarms=0.2)[0] == pytest.approx(found[alarms <= 0.2].max())
    assert weighted_false_alarms(scores, positive, weights, found=0.8)[0] == pytest.approx(alarms[found >= 0.8].min())
