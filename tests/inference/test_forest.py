"""A forest holds every sequence on one path, and cuts only where it may and where it pays."""

from collections.abc import Iterator, Sequence

import pytest

from mmmed.inference.forest import Node, grow


def paths(nodes: Sequence[Node], before: tuple[Node, ...] = ()) -> Iterator[tuple[Node, ...]]:
    for node in nodes:
        yield (*before, node)
        yield from paths(node.children, (*before, node))


def read_back(forest: Sequence[Node], sequences: Sequence[tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Every sequence put together from the nodes of its path."""
    found = {}
    for path in paths(forest):
        for index in path[-1].sequences:
            if path[-1].end == len(sequences[index]):
                assert all(index in node.sequences for node in path)
                assert [node.begin for node in path] == [0, *(node.end for node in path[:-1])]
                # What a node stands for is what its first sequence says: so it must be what all of them say.
                found[index] = tuple(
                    token for node in path for token in sequences[node.sequences[0]][node.begin : node.end]
                )
    return found


SEQUENCES = [
    (1, 2, 3, 4, 5),
    (1, 2, 3, 4, 6, 7),
    (1, 2, 3),
    (1, 2, 8, 9),
    (5, 5),
    (1, 2, 3, 4, 6, 8),
    (1,),
    (5, 5, 5, 5),
]


@pytest.mark.parametrize("shortest", [1, 2, 3, 100])
def test_every_sequence_is_on_one_path_whole(shortest: int) -> None:
    forest = grow(SEQUENCES, shortest=shortest)
    assert read_back(forest, SEQUENCES) == dict(enumerate(SEQUENCES))


def test_what_is_shared_is_read_once() -> None:
    forest = grow([(7,) * 20 + (token,) for token in range(6)], shortest=4)
    (trunk,) = forest
    assert len(trunk) == 20
    assert [len(child) for child in trunk.children] == [1] * 6


def test_short_stretches_are_not_worth_a_level() -> None:
    forest = grow([(1, 2, 3), (1, 2, 4)], shortest=3)
    assert sorted(len(node) for node in forest) == [3, 3]


def test_a_sequence_is_not_cut_before_its_last_image() -> None:
    sequences = [(1, 1, 1, 1, -1, 2), (1, 1, 1, 1, -2, 2), (1, 1, 1, 1, 3, 3)]
    assert len(grow(sequences, shortest=2)) == 1
    forest = grow(sequences, shortest=2, whole_until=[5, 5, 0])
    assert sorted(len(node) for node in forest) == [6, 6, 6]
    assert read_back(forest, sequences) == dict(enumerate(sequences))
