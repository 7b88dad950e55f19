"""A packed row holds what conversations begin with alike once, and shows each its own tokens alone."""

import random

import pytest
import torch

from mmmed.models import packing
from mmmed.models.packing import NOTHING, SHORTEST_ROOT, Row, Tree, dense_mask, lay, sees


def told(row: Row, conversations: list[list[int]], index: int) -> list[int]:
    """The places of a conversation in the row, found back from its last token through what stands before each."""
    laid = [conversations[part.conversation][place] for part in row.parts for place in range(part.begin, part.end)]
    starts = torch.tensor([part.end - part.begin for part in row.parts]).cumsum(0)
    own = next(number for number, part in enumerate(row.parts) if part.conversation == index)
    places, place = [], int(starts[own]) - 1
    while place != NOTHING:
        places.append(place)
        place = int(row.layout.before_T[place])
    assert [laid[place] for place in reversed(places)] == conversations[index]
    return places[::-1]


def random_conversations(seed: int) -> tuple[list[list[int]], list[int], list[int]]:
    """Conversations of few words, so that many begin alike; how much of each may be shared; and groups."""
    chance = random.Random(seed)
    conversations = [[chance.randrange(2) for _ in range(chance.randint(1, 9))] for _ in range(chance.randint(1, 8))]
    shareable = [chance.randint(0, len(one)) for one in conversations]
    return conversations, shareable, [chance.randrange(3) for _ in conversations]


@pytest.fixture(params=[1, 99], ids=["a root", "no root"])
def shortest_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Tokens from which on all trees share what they begin with."""
    monkeypatch.setattr(packing, "SHORTEST_ROOT", request.param)
    return int(request.param)


@pytest.mark.usefixtures("shortest_root")
@pytest.mark.parametrize("seed", range(60))
def test_every_conversation_of_a_random_forest_sees_itself_and_nothing_else(seed: int) -> None:
    conversations, shareable, groups = random_conversations(seed)
    row = lay(conversations, shareable=shareable, groups=groups)
    mask = dense_mask(row.layout.ends_T)
    held = [0] * len(mask)
    for index, conversation in enumerate(conversations):
        places = told(row, conversations, index)
        assert row.layout.positions_T[places].tolist() == list(range(len(conversation)))
        for nth, place in enumerate(places):
            assert mask[place].nonzero()[:, 0].tolist() == places[: nth + 1]
            held[place] += 1
            # What is learned stands apart, to count once for each.
            assert nth < shareable[index] or held[place] == 1
    assert min(held) > 0


@pytest.mark.parametrize("seed", range(20))
def test_trees_fill_the_row_and_no_token_sees_another_tree(seed: int, shortest_root: int) -> None:
    conversations, shareable, groups = random_conversations(seed)
    layout = lay(conversations, shareable=shareable, groups=groups).layout
    root = layout.root
    assert not root or (root >= shortest_root and len(set(groups)) > 1)
    ends = [root, *(tree.end for tree in layout.trees)]
    assert [tree.begin for tree in layout.trees] == ends[:-1]
    assert ends[-1] == len(layout.ends_T)
    mask = dense_mask(layout.ends_T)
    for begin, trunk_end, end in layout.trees:
        assert mask[begin:end, :root].all() and not mask[begin:end, root:begin].any()
        assert not mask[begin:end, end:].any()
        trunk = mask[begin:trunk_end, begin:trunk_end]
        assert torch.equal(trunk, torch.ones_like(trunk).tril()), "a trunk is causal"
        assert mask[trunk_end:end, begin:trunk_end].all(), "and all that branches off it sees all of it"


def test_a_tree_of_three_branches_is_laid_as_drawn() -> None:
    """Prefix 7 7, then the branches 1 2, 1 3 (which share a 1) and 4."""
    row = lay([[7, 7, 4], [7, 7, 1, 3], [7, 7, 1, 2]], shareable=[9, 9, 9], groups=[0, 0, 0])
    assert [part.conversation for part in row.parts] == [2, 1, 0]
    assert row.layout.positions_T.tolist() == [0, 1, 2, 3, 3, 2]
    assert row.layout.ends_T.tolist() == [6, 6, 5, 4, 5, 6]
    assert row.layout.before_T.tolist() == [NOTHING, 0, 1, 2, 2, 1]
    assert row.layout.trees == (Tree(0, 2, 6),)


def test_what_trees_begin_with_stands_once_if_it_is_long_enough() -> None:
    prompt = list(range(100, 100 + SHORTEST_ROOT))
    conversations = [[*prompt, 1, 2], [*prompt, 1, 3], [*prompt, 4]]
    row = lay(conversations, shareable=[99] * 3, groups=[0, 0, 1])
    assert row.layout.root == SHORTEST_ROOT
    assert [tuple(place - SHORTEST_ROOT for place in tree) for tree in row.layout.trees] == [(0, 1, 3), (3, 4, 4)]
    assert len(row.layout.positions_T) == SHORTEST_ROOT + 4
    assert row.layout.positions_T[-1] == SHORTEST_ROOT, "a tree counts on from the root"
    assert row.layout.before_T[-1] == SHORTEST_ROOT - 1
    for shareable in (SHORTEST_ROOT - 1, 0):
        assert not lay(conversations, shareable=[99, 99, shareable], groups=[0, 0, 1]).layout.root


def test_one_conversation_is_all_trunk() -> None:
    layout = lay([[5, 6, 7]], shareable=[0], groups=[0]).layout
    assert layout.trees == (Tree(0, 3, 3),)
    assert torch.equal(dense_mask(layout.ends_T), torch.ones(3, 3, dtype=torch.bool).tril())


def test_the_rule_for_one_pair_is_that_of_the_mask() -> None:
    layout = lay(*[[[1, 2, 3], [1, 2, 4], [5]]], shareable=[2, 2, 1], groups=[0, 0, 1]).layout
    length = len(layout.ends_T)
    by_pair = [[bool(sees(layout.ends_T, query, key)) for key in range(length)] for query in range(length)]
    assert by_pair == dense_mask(layout.ends_T).tolist()
