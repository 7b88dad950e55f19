"""Batches by tokens: never too many, nearly full, groups together, resumable."""

from itertools import islice

import pytest

from mmmed.data.order import ResumableLoader
from mmmed.data.token_order import TokenOrder
from mmmed.errors import CheckpointError, ConfigError

TOKENS = [20 + (place * 37) % 61 for place in range(60)]
GROUPS = [place // 4 for place in range(60)]
SHARED = [16] * 60


def tokens_of(batch: list[int], *, packed: bool) -> int:
    """What a batch takes: of each group's shared tokens once, or each example as the longest."""
    if not packed:
        return len(batch) * max(TOKENS[index] for index in batch)
    groups = {GROUPS[index] for index in batch}
    return sum(TOKENS[index] - SHARED[index] for index in batch) + 16 * len(groups)


def token_order(*, packed: bool = True, **settings: int) -> TokenOrder:
    sharing = {"groups": GROUPS, "shared": SHARED} if packed else {}
    return TokenOrder(TOKENS, **({"tokens": 400, "seed": 0} | settings), **sharing)


@pytest.mark.parametrize("packed", [True, False])
def test_no_batch_has_more_tokens_than_it_may_and_most_are_nearly_full(packed: bool) -> None:
    batches = list(token_order(packed=packed))
    taken = [tokens_of(batch, packed=packed) for batch in batches]
    assert max(taken) <= 400
    assert sum(taken) / len(taken) > 0.6 * 400
    assert sorted(index for batch in batches for index in batch) == list(range(60))


def test_a_group_stays_together_where_it_fits() -> None:
    for batch in token_order():
        assert all(sum(GROUPS[index] == group for index in batch) == 4 for group in {GROUPS[i] for i in batch})


def test_a_group_too_large_for_a_batch_is_shared_among_several() -> None:
    order = TokenOrder([50] * 20, tokens=100, seed=0, groups=[0] * 20, shared=[30] * 20)
    batches = list(order)
    assert sorted(map(len, batches)) == [2] + [3] * 6


@pytest.mark.parametrize("packed", [True, False])
def test_every_epoch_has_as_many_batches_as_the_first_and_loses_few_examples(packed: bool) -> None:
    order = token_order(packed=packed)
    for epoch in range(12):
        order.epoch = epoch
        batches = [[index % 60 for index in batch] for batch in order]
        assert len(batches) == len(order)
        assert max(tokens_of(batch, packed=packed) for batch in batches) <= 400
        seen = [index for batch in batches for index in batch]
        assert len(set(seen)) == len(seen) >= 60 - 2 * 12


def test_ranks_share_batches_of_tokens_without_overlap() -> None:
    ranks = [list(token_order(rank=rank, world=2)) for rank in range(2)]
    assert len(ranks[0]) == len(ranks[1])
    seen = [index for batches in ranks for batch in batches for index in batch]
    assert len(set(seen)) == len(seen)


def test_a_loader_of_batches_of_tokens_goes_on_with_the_very_next_batch() -> None:
    def tokens_loader(**settings: int) -> ResumableLoader:
        return ResumableLoader(range(10**6), token_order(**settings), collate_fn=list)

    reference = tokens_loader()
    expected = [*reference, *reference]
    stopped = tokens_loader()
    seen = [*stopped, *islice(iter(stopped), 3)]
    resumed = tokens_loader()
    resumed.resume(stopped.position())
    assert [*seen, *resumed] == expected
    with pytest.raises(CheckpointError, match="other batches"):
        tokens_loader(tokens=500).resume(stopped.position())


def test_batches_too_small_for_an_example_or_too_few_for_the_processes_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_tokens is 60, and the longest example has 80 tokens"):
        token_order(tokens=60)
    with pytest.raises(ConfigError, match="fewer batches than 2 processes need"):
        token_order(tokens=10**6, world=2)
