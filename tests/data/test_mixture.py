"""What is rare in the files need not be rare in training."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mmmed.data.collection import Listed
from mmmed.data.mixture import Mixture, draw
from mmmed.data.order import BatchOrder, ResumableLoader
from mmmed.errors import ConfigError
from mmmed.records import Example

Make = Callable[..., Example]


@pytest.fixture
def skewed(make_example: Make) -> list[Example]:
    """90 films of which 80 show it, and 10 films that are described."""
    closed = [
        make_example(f"c{film}", "Is it so?", "yes" if film < 80 else "no", film, options=("yes", "no"), topic="it")
        for film in range(90)
    ]
    described = [make_example(f"r{film}", "Describe it.", f"Film {film}.", film, topic="report") for film in range(10)]
    return closed + described


def share(weights: NDArray[np.float64], chosen: list[bool]) -> float:
    return sum(weight for weight, one in zip(weights, chosen, strict=True) if one) / sum(weights)


def test_without_settings_every_example_weighs_the_same(skewed: list[Example]) -> None:
    assert set(Mixture().weights(Listed(skewed))) == {1.0}


def test_balance_makes_answers_equal_and_leaves_the_kinds_as_they_are(skewed: list[Example]) -> None:
    weights = Mixture(balance=True).weights(Listed(skewed))
    assert share(weights, [one.reference == "yes" for one in skewed]) == pytest.approx(0.45)
    assert share(weights, [one.topic == "report" for one in skewed]) == pytest.approx(0.1)


def test_temperature_draws_the_kinds_together(skewed: list[Example]) -> None:
    described = [one.topic == "report" for one in skewed]
    assert share(Mixture(temperature=2).weights(Listed(skewed)), described) == pytest.approx(0.25)
    assert share(Mixture(temperature=1e9).weights(Listed(skewed)), described) == pytest.approx(0.5)


def test_a_temperature_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"temperature is 0.5; expected 1 \(as in the files\) or more"):
        Mixture(temperature=0.5)


def test_equal_weights_draw_each_once() -> None:
    drawn = draw([0.1] * 997, torch.Generator().manual_seed(0))
    assert sorted(drawn) == list(range(997))
    assert drawn != sorted(drawn)


def test_each_is_drawn_about_as_often_as_it_weighs() -> None:
    weights = [1.0, 2.0, 3.5, 0.5, 3.0]
    drawn = Counter(index for seed in range(400) for index in draw(weights, torch.Generator().manual_seed(seed)))
    for index, weight in enumerate(weights):
        assert drawn[index] / 400 == pytest.approx(weight / 2, abs=0.1)
    once = Counter(draw(weights, torch.Generator().manual_seed(0)))
    assert all(abs(once[index] - weight / 2) < 1 for index, weight in enumerate(weights))


def test_batches_follow_the_weights_and_their_digest_knows_them() -> None:
    lengths, weights = [5] * 60, [9.0] * 6 + [1.0] * 54
    order = BatchOrder(lengths, batch_size=6, seed=0, weights=weights)
    drawn = Counter(index for batch in order for index in batch)
    assert sum(drawn[index] for index in range(6)) == 30
    assert order.digest != BatchOrder(lengths, batch_size=6, seed=0).digest


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> int:
        return index


def drawn(*, workers: int = 0, rank: int = 0, world: int = 1) -> list[list[int]]:
    order = BatchOrder([5] * 60, batch_size=6, seed=3, weights=[9.0] * 6 + [1.0] * 54, rank=rank, world=world)
    loader = ResumableLoader(Numbers(), order, collate_fn=list, num_workers=workers)
    return [batch for _ in range(2) for batch in loader]


def test_what_is_drawn_depends_on_neither_workers_nor_ranks() -> None:
    whole = drawn()
    assert drawn(workers=1) == drawn(workers=2) == whole
    ranks = [drawn(workers=rank, rank=rank, world=2) for rank in range(2)]
    assert [batch for pair in zip(*ranks, strict=True) for batch in pair] == whole
