"""A promise that is too weak, or none, is found; a strong one is let through and says what it is made of."""

from collections.abc import Callable
from typing import Any

import pytest

from mmmed.errors import DataError
from mmmed.safety.audit import Suite, audit
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure, Verdict
from mmmed.safety.privacy_budget import PrivacyBudget
from mmmed.training.private import PrivateGradients

Judge = Callable[..., Subject]
LIMIT = 8.0


@pytest.fixture
def promised(subject: Judge) -> Callable[..., Subject]:
    """Makes a model that says of itself what `PrivateGradients` says after so many steps of so much noise."""

    def make(noise: float, *, steps: int = 200, sample_rate: float = 0.02) -> Subject:
        private = PrivateGradients(noise=noise)
        private.steps, private.sample_rate = steps, sample_rate
        judged = subject(lambda example: 0.5)
        session: Any = judged.session
        session.provenance = private.provenance()
        return judged

    return make


def epsilon(judged: Subject) -> Measure:
    (found,) = PrivacyBudget(at_most=LIMIT).examine(judged)
    return found


def test_too_little_noise_fails_and_enough_passes(promised: Callable[..., Subject]) -> None:
    weak, strong = epsilon(promised(0.3)), epsilon(promised(2.0))
    assert (weak.verdict, strong.verdict) == (Verdict.FAILED, Verdict.PASSED)
    assert strong.value < LIMIT < weak.value
    assert strong.low == strong.value == strong.high, "a bound is no estimate"
    assert strong.n == 200
    assert "delta 1e-05, noise 2, clip 1;" in strong.note


def test_the_same_noise_promises_less_the_longer_it_is_trained(promised: Callable[..., Subject]) -> None:
    values = [epsilon(promised(1.0, steps=steps)).value for steps in (10, 100, 1000, 20_000)]
    assert values == sorted(values)
    assert epsilon(promised(1.0, steps=20_000)).verdict is Verdict.FAILED


def test_clean_models_are_never_flagged(promised: Callable[..., Subject]) -> None:
    found = [epsilon(promised(noise, steps=steps)) for noise in (1.0, 2.0) for steps in (50, 100, 200)]
    assert {one.verdict for one in found} == {Verdict.PASSED}


def test_without_a_promise_nothing_passes(subject: Judge, promised: Callable[..., Subject]) -> None:
    judged = subject(lambda example: 0.5)
    session: Any = judged.session
    session.provenance = {}
    for without in (judged, promised(0.0)):
        with pytest.raises(DataError, match="not trained with differential privacy"):
            PrivacyBudget(at_most=LIMIT).examine(without)
    (shown,) = audit(Suite(name="one", version=1, checks=[PrivacyBudget(at_most=LIMIT)]), judged)
    assert shown.verdict is Verdict.NOT_SHOWN
    assert "promises nothing" in shown.missing


def test_without_a_limit_it_is_shown_and_does_not_pass(promised: Callable[..., Subject]) -> None:
    (found,) = PrivacyBudget().examine(promised(2.0))
    assert found.verdict is Verdict.NOT_SHOWN
