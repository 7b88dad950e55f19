"""A figure passes only where its whole interval is allowed."""

import math

import numpy as np
import pytest

from mmmed.safety.measure import Measure, Verdict, estimate, verdict_of


def measure(low: float, high: float, *, least: float | None = None, most: float | None = None) -> Measure:
    return Measure(name="x", value=(low + high) / 2, low=low, high=high, n=9, expected=0, least=least, most=most)


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (measure(0.1, 0.2, most=0.2), Verdict.PASSED),
        (measure(0.1, 0.2, most=0.15), Verdict.NOT_SHOWN),
        (measure(0.1, 0.2, most=0.05), Verdict.FAILED),
        (measure(0.1, 0.2, least=0.1), Verdict.PASSED),
        (measure(0.1, 0.2, least=0.3), Verdict.FAILED),
        (measure(-0.1, 0.1, least=-0.1, most=0.1), Verdict.PASSED),
        (measure(-0.3, -0.2, least=-0.1, most=0.1), Verdict.FAILED),
        (measure(0.1, 0.2), Verdict.NOT_SHOWN),
        (measure(math.nan, math.nan, most=1.0), Verdict.NOT_SHOWN),
    ],
)
def test_a_verdict_needs_the_whole_interval(one: Measure, verdict: Verdict) -> None:
    assert one.verdict is verdict


def test_a_check_passes_only_if_all_its_figures_do() -> None:
    good, bad, unclear = measure(0, 0.1, most=1), measure(0.5, 0.6, most=0.1), measure(0, 0.1)
    assert verdict_of([good, good]) is Verdict.PASSED
    assert verdict_of([good, unclear]) is Verdict.NOT_SHOWN
    assert verdict_of([good, bad, unclear]) is Verdict.FAILED
    assert verdict_of([]) is Verdict.NOT_SHOWN


def test_patients_and_not_items_make_the_interval() -> None:
    values = np.random.default_rng(0).integers(0, 2, 40).astype(float)
    tallies = np.stack([values, np.ones(40)], axis=1)
    alone = estimate(tallies, [str(n) for n in range(40)], value_of=lambda t: t[..., 0] / t[..., 1])
    fourfold = np.repeat(tallies, 4, axis=0)
    told = estimate(fourfold, [str(n) for n in range(40) for _ in range(4)], value_of=lambda t: t[..., 0] / t[..., 1])
    assert (told.value, told.low, told.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_nothing_is_said_of_nobody() -> None:
    assert math.isnan(estimate([], [], value_of=lambda t: t[..., 0]).value)
