"""Every example once an epoch, and after a break the very next batch."""

import time
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from mmmed.data.order import BatchOrder, ResumableLoader
from mmmed.errors import CheckpointError, ConfigError

LENGTHS = [(place * 7) % 23 for place in range(24)]


class Numbers(Dataset[int]):
    def __len__(self) -> int:
        return len(LENGTHS)

    def __getitem__(self, index: int) -> int:
        return index % len(LENGTHS)


def loader(*, batch_size: int = 4, seed: int = 0, workers: int = 0) -> ResumableLoader:
    order = BatchOrder(LENGTHS, batch_size=batch_size, seed=seed, window=2)
    return ResumableLoader(Numbers(), order, collate_fn=list, num_workers=workers)


def test_every_example_stands_in_one_batch_of_an_epoch() -> None:
    batches = list(loader())
    assert len(batches) == len(loader()) == 6
    assert sorted(index for batch in batches for index in batch) == list(range(24))


def test_batches_are_of_similar_length() -> None:
    spread = [max(LENGTHS[i] for i in batch) - min(LENGTHS[i] for i in batch) for batch in loader()]
    by_chance = [max(LENGTHS[i : i + 4]) - min(LENGTHS[i : i + 4]) for i in range(0, 24, 4)]
    assert sum(spread) < sum(by_chance)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first, again, other = loader(), loader(), loader(seed=1)
    epochs = [list(first), list(first)]
    assert epochs[0] != epochs[1]
    assert epochs == [list(again), list(again)]
    assert list(other) != epochs[0]


def test_indices_count_on_through_the_epochs() -> None:
    order = BatchOrder(LENGTHS, batch_size=4, seed=0)
    order.epoch = 2
    assert sorted(index for batch in order for index in batch) == list(range(48, 72))


def test_an_epoch_whose_end_nobody_waits_for_is_over() -> None:
    """Lightning counts batches, and never asks for the one after the last."""
    patient, hasty = loader(), loader()
    expected = [list(patient), list(patient), list(patient)]
    assert [list(islice(iter(hasty), 6)) for _ in range(3)] == expected


def test_an_epoch_cut_short_is_followed_by_the_next_one() -> None:
    whole, cut = loader(), loader()
    list(whole)
    list(islice(iter(cut), 2))
    assert list(cut) == list(whole)


@pytest.mark.parametrize(
    ("done", "workers"), [(0, 0), (1, 0), (5, 0), (6, 0), (7, 0), (12, 0), (13, 0), (1, 2), (7, 2)]
)
def test_a_resumed_loader_goes_on_with_the_very_next_batch(done: int, workers: int) -> None:
    reference = loader()
    expected = [batch for _ in range(3) for batch in reference]

    stopped, seen = loader(workers=workers), []
    while len(seen) < done:
        seen.extend(islice(iter(stopped), done - len(seen)))
    position = stopped.position()

    resumed = loader(workers=workers)
    resumed.resume(position)
    assert resumed.position() == position
    rest = [*resumed]
    while len(seen) + len(rest) < len(expected):
        rest.extend(resumed)
    assert seen + rest == expected


def test_the_order_does_not_touch_the_random_state_of_training() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("other", [{"batch_size": 3}, {"seed": 1}])
def test_another_order_is_not_gone_on_with(other: dict[str, int]) -> None:
    position = loader().position()
    with pytest.raises(CheckpointError, match="other batches; resume with the data, batch_size and seed"):
        loader(**other).resume(position)


def test_ranks_share_an_epoch_without_overlap() -> None:
    orders = [BatchOrder(LENGTHS, batch_size=4, seed=0, rank=rank, world=2) for rank in range(2)]
    seen = [[index for batch in order for index in batch] for order in orders]
    assert len(seen[0]) == len(seen[1]) == 12
    assert sorted(seen[0] + seen[1]) == list(range(24))


def test_the_last_short_batch_is_dropped_unless_it_is_the_only_one() -> None:
    assert [len(batch) for batch in BatchOrder(LENGTHS, batch_size=5, seed=0)] == [5] * 4
    assert [len(batch) for batch in BatchOrder(LENGTHS, batch_size=50, seed=0)] == [24]


def test_neighbours_stay_together_where_that_is_asked_for() -> None:
    order = BatchOrder([1] * 4000, batch_size=10, seed=0, nearby=100)
    first = np.array(list(order))
    order.epoch = 1
    second = np.array(list(order)) - 4000
    for batches in (first, second):
        assert sorted(batches.ravel()) == list(range(4000))
        runs = [len({index // 100 for index in part}) for part in batches.reshape(10, 400)]
        assert max(runs) <= 4
    assert first.tolist() != second.tolist()
    # Neighbours are shuffled among those of other runs, down to single batches.
    assert np.mean([len({index // 100 for index in batch}) for batch in first]) > 2.5
    assert np.mean(np.abs(np.diff(first.ravel()))) > 300
    with pytest.raises(ConfigError, match="nearby is 0"):
        BatchOrder([1] * 4, batch_size=2, seed=0, nearby=0)


def test_a_million_examples_are_ordered_in_no_time() -> None:
    order = BatchOrder(np.arange(1_000_000) % 97, batch_size=32, seed=0)
    start = time.process_time()
    next(iter(order))
    assert time.process_time() - start < 3
