"""The learning rate rises, falls, and ends at its floor."""

import pytest

from mmmed.training.schedule import warm_cosine


def test_the_factor_rises_to_one_and_falls_to_the_floor() -> None:
    factors = [warm_cosine(step, steps=100, warmup=0.1, floor=0.2) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[55] == pytest.approx(0.6)
    assert factors[100] == pytest.approx(0.2)
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_shortest_runs_learn_too(steps: int) -> None:
    assert all(warm_cosine(step, steps=steps, warmup=0.03, floor=0) > 0 for step in range(steps))
