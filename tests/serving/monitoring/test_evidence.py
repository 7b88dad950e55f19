import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from mmmed.serving.monitoring.evidence import adjusted, bet, change, money


def test_a_bet_wins_nothing_on_average_and_more_the_smaller_p_is() -> None:
    # In terms of u = -log p the integral over [0, 1] is one of a smooth function.
    won, _ = quad(lambda u: bet(math.exp(-u)) * math.exp(-u), 0, 600, limit=500)
    # What is left out lies below p = exp(-600), where the bets that are so far out still hold 1 / 600.
    assert won == pytest.approx(1 - 1 / 600, abs=1e-4)
    ps = [1e-200, 1e-9, 0.001, 0.2, 0.9, 1 - 1e-3, 1 - 1e-5, 1.0]
    wins = [bet(p) for p in ps]
    assert wins == sorted(wins, reverse=True)
    assert wins[-1] == 0.5


def test_money_is_that_of_bettors_who_begin_at_every_batch() -> None:
    ps = [0.3, 0.01, math.nan, 0.6]
    wins = [1.0 if math.isnan(p) else bet(p) for p in ps]
    for until in range(1, 5):
        begun = sum(math.prod(wins[start:until]) / ((start + 1) * (start + 2)) for start in range(until))
        assert money(ps)[until - 1] == pytest.approx(begun + 1 / (until + 1))
    assert money([]).shape == (0,)
    assert np.isfinite(money([1e-299] * 50)).all()


def test_chance_of_ever_growing_twentyfold_is_at_most_one_in_twenty() -> None:
    generator = np.random.default_rng(0)
    runs = 1000
    rich = sum(money(generator.random(40)).max() >= 20 for _ in range(runs))
    assert rich <= binom.ppf(0.99, runs, 0.05)
    assert rich > 0  # it is a bet, after all


def test_a_late_change_is_found_and_dated() -> None:
    generator = np.random.default_rng(1)
    ps = np.concatenate([generator.random(60), generator.random(8) / 1000])
    course = money(ps)
    assert course[59] < 20 < course[64]
    assert change([ps], until=67) == 60
    assert change([generator.random(68), ps], until=67) == 60


def test_adjusted_p_values_are_those_of_holm_and_only_fall() -> None:
    assert adjusted({"a": 400.0, "b": 50.0, "c": 0.5}) == pytest.approx({"a": 3 / 400, "b": 2 / 50, "c": 1.0})
    rich = [1.0, 3.0, 30.0, 100.0, 1000.0]
    for before in itertools.product(rich, repeat=2):
        for name, p in adjusted({"a": before[0] * 2, "b": before[1]}).items():
            assert p <= adjusted({"a": before[0], "b": before[1]})[name] + 1e-12
