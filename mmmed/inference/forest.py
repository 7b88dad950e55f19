"""Which stretches of many token sequences are the same, so that each is read once.

Pure: sequences in, trees out. A node is a stretch of tokens that all sequences through it share; what a model has
read of it serves them all. Few-shot examples, a long context and an image are such stretches, and so is a question
whose options have several tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SHORTEST_SHARED = 16
"""Tokens below which a stretch is read again with each sequence: a level of its own costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Node:
    """A stretch of tokens after that of its parent.

    Args:
        begin: Place of its first token in every sequence through it.
        end: Place after its last token.
        sequences: Which sequences go through it, as indices.
        children: What follows it.
    """

    begin: int
    end: int
    sequences: tuple[int, ...]
    children: list[Node] = field(default_factory=list)

    def __len__(self) -> int:
        return self.end - self.begin


def grow(
    sequences: Sequence[Sequence[int]],
    *,
    shortest: int = SHORTEST_SHARED,
    whole_until: Sequence[int] | None = None,
) -> list[Node]:
    """Trees that between them hold every sequence, from its first token to its last, on one path.

    Args:
        sequences: Distinct ones, none of them empty.
        shortest: Fewest tokens that are worth a node of their own with children.
        whole_until: For each sequence, a place before which it must not be cut; nowhere unless given.
    """
    assert len({tuple(one) for one in sequences}) == len(sequences), "equal sequences are to be read once"
    order = sorted(range(len(sequences)), key=lambda index: tuple(sequences[index]))
    uncut = whole_until if whole_until is not None else [0] * len(sequences)
    return _grow(sequences, order, begin=0, shortest=shortest, uncut=uncut)


def _grow(
    sequences: Sequence[Sequence[int]], order: list[int], *, begin: int, shortest: int, uncut: Sequence[int]
) -> list[Node]:
    if not order:
        return []
    if len(order) == 1:
        return [Node(begin, len(sequences[order[0]]), (order[0],))]
    # What the first and the last in order share, all between them share too.
    common = shared(sequences[order[0]], sequences[order[-1]], begin=begin)
    is_cut = common - begin >= shortest and all(uncut[index] <= common for index in order)
    parts = _parted(sequences, order, place=common)
    if is_cut:
        following = [part for part in parts if len(sequences[part[0]]) > common]
        children = [
            node for part in following for node in _grow(sequences, part, begin=common, shortest=shortest, uncut=uncut)
        ]
        return [Node(begin, common, tuple(order), children)]
    return [node for part in parts for node in _grow(sequences, part, begin=begin, shortest=shortest, uncut=uncut)]


def shared(first: Sequence[int], last: Sequence[int], *, begin: int = 0) -> int:
    """Place up to which two sequences are the same; so are all between them in order."""
    shortest = min(len(first), len(last))
    return next((place for place in range(begin, shortest) if first[place] != last[place]), shortest)


def _parted(sequences: Sequence[Sequence[int]], order: list[int], *, place: int) -> list[list[int]]:
    """Neighbours with the same token at a place together; one that ends there stands alone."""
    parts: list[list[int]] = []
    before: int | None = None
    for index in order:
        token = sequences[index][place] if len(sequences[index]) > place else None
        if parts and token is not None and token == before:
            parts[-1].append(index)
        else:
            parts.append([index])
        before = token
    return parts
