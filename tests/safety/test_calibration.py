"""Confidence that lies is found, and honest confidence is let through."""

from collections.abc import Callable

import numpy as np
import pytest

from mmmed.evaluation.predictions import Prediction
from mmmed.safety.calibration import (
    Calibration,
    brier,
    calibration_error,
    confidence_of,
    fitted_temperature,
)
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict

Judge = Callable[..., Subject]
Believe = Callable[..., float]

Items = Callable[..., list[Prediction]]


def honest(make_items: Items, seed: int, *, count: int = 1000) -> list[Prediction]:
    generator = np.random.default_rng(seed)
    sure = generator.uniform(0.5, 1, count)
    return make_items(generator.random(count) < sure, confidence=sure)


def boastful(make_items: Items, *, count: int = 1000) -> list[Prediction]:
    """Right as often as its confidence would be at twice the temperature."""
    generator = np.random.default_rng(9)
    logit = generator.uniform(0, 6, count)
    sure, true = 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-logit / 3))
    return make_items(generator.random(count) < true, confidence=sure)


def test_calibration_error_by_hand(make_items: Items) -> None:
    said = confidence_of(make_items([True, True, False, True], confidence=[0.95, 0.95, 0.55, 0.55]))
    # Bins (0.5, 0.6] and (0.9, 1.0]: |0.55 - 0.5| and |0.95 - 1.0|, two items each.
    assert calibration_error(said, 10, "width").value == pytest.approx(0.05)
    assert brier(said).value == pytest.approx((0.05**2 * 2 + 0.55**2 + 0.45**2) / 4)


def test_the_temperature_that_was_planted_is_found(make_items: Items) -> None:
    assert fitted_temperature(boastful(make_items, count=4000)) == pytest.approx(3.0, abs=0.35)
    assert fitted_temperature(honest(make_items, 1, count=4000)) == pytest.approx(1.0, abs=0.2)


def test_a_boastful_model_fails_and_an_honest_one_does_not(make_items: Items) -> None:
    for binning in ("width", "mass"):
        lying = calibration_error(confidence_of(boastful(make_items)), 10, binning)  # type: ignore[arg-type]
        assert lying.low > 0.1
        true = calibration_error(confidence_of(honest(make_items, 0)), 10, binning)  # type: ignore[arg-type]
        assert true.high < 0.1


def test_the_check_judges_a_sighted_model(films_task: str, subject: Judge, sighted: Believe) -> None:
    honest_one = subject(sighted)  # always right, and 0.9 sure
    measures = Calibration(task=films_task, at_most=0.3).examine(honest_one)
    assert [round(one.value, 3) for one in measures[:3]] == [0.1, 0.1, 0.01]
    assert measures[3].value < 0.06
    assert all(one.verdict is Verdict.PASSED for one in measures)
    liar = subject(lambda one: 1 - sighted(one))
    assert Calibration(task=films_task, at_most=0.3).examine(liar)[0].verdict is Verdict.FAILED
