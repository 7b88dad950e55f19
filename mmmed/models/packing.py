"""Several conversations in one row: what they begin with alike stands once, and no branch sees another.

    system prompt, image ──┬── question 1, answer 1
                           ├── question 2, answer 2
                           └── question 3, answer 3

The tokens of a tree are laid from the root on, each branch whole before the next. A token is then seen by those from
its own place up to the end of all that branches off after it, so that one number a token, that end, tells the whole
mask: ``query sees key`` where ``key <= query < end of key``. Trees that follow one another (a forest) need nothing
more, since each token's end lies in its own tree. What all of them begin with, such as the system prompt, is their
common root: it stands once, in front of them, and ends with the row.

Letters in tensor names: T tokens of the row, Q queries, K keys, N pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

NOTHING = -1
"""What stands before the first token of a conversation."""
SHORTEST_ROOT = 8
"""Fewer tokens that trees begin with alike are not shared, since the attention of each tree copies them."""


class Part(NamedTuple):
    """Tokens ``begin`` to ``end`` of one conversation, which stand side by side in the row."""

    conversation: int
    begin: int
    end: int


class Tree(NamedTuple):
    """Places of a tree in its row, behind the root: its trunk, up to where it first branches, and all of it."""

    begin: int
    trunk_end: int
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens of a packed row belong.

    Args:
        positions_T: Place of each token in its own conversation.
        ends_T: First place that no longer sees the token.
        before_T: Place of the token before it in its conversation, or `NOTHING`.
        numbers_N: Which picture of its conversation each picture of the row is.
        trees: Of the row, in order; they fill it behind the root.
        conversations: How many were laid.
        root: Tokens at the beginning of the row that all its trees begin with.
    """

    positions_T: Tensor
    ends_T: Tensor
    before_T: Tensor
    numbers_N: Tensor
    trees: tuple[Tree, ...]
    conversations: int
    root: int = 0

    def to(self, device: torch.device) -> "Layout":
        """The same layout on another device."""
        return replace(
            self,
            positions_T=self.positions_T.to(device, non_blocking=True),
            ends_T=self.ends_T.to(device, non_blocking=True),
            before_T=self.before_T.to(device, non_blocking=True),
            numbers_N=self.numbers_N.to(device, non_blocking=True),
        )


class Row(NamedTuple):
    """Conversations laid in one row: which tokens stand there, one part after another, and how they belong together."""

    parts: list[Part]
    layout: Layout


def lay(conversations: Sequence[Sequence[int]], *, shareable: Sequence[int], groups: Sequence[int]) -> Row:
    """Lay conversations so that what those of a group begin with alike stands once, and what all begin with, too.

    The layout's `numbers_N` is empty, since this knows of no pictures.

    Args:
        conversations: What tells the tokens of each conversation apart: equal numbers, equal tokens.
        shareable: How many of the first tokens of each may be shared. What is learned must not be, since the loss
            counts it once for every conversation.
        groups: Which conversations may share anything; trees stand in the order of these numbers.
    """
    parts: list[Part] = []
    trees: list[Tree] = []
    positions: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    path: list[int] = []  # places of the tokens of the conversation laid last, from its first on
    last = None
    root = _root(conversations, shareable=shareable, groups=groups)
    # Sorted, those that begin alike follow one another, and each shares most with the one before it.
    for index in sorted(range(len(conversations)), key=lambda one: (groups[one], list(conversations[one]))):
        tokens, start = conversations[index], len(positions)
        shared = root if last is not None else 0
        if last is not None and groups[last] == groups[index]:
            shared = min(_alike(conversations[last], tokens), shareable[last], shareable[index])
        for place in path[shared:]:
            ends[place] = start
        end = start + len(tokens) - shared
        if shared > root:
            begin, trunk_end, _ = trees.pop()
            trees.append(Tree(begin, min(trunk_end, path[shared - 1] + 1), end))
        else:
            trees.append(Tree(max(start, root), end, end))
        del path[shared:]
        for position in range(shared, len(tokens)):
            before.append(path[-1] if path else NOTHING)
            path.append(len(positions))
            positions.append(position)
            ends.append(NOTHING)
        parts.append(Part(index, shared, len(tokens)))
        last = index
    for place in path:
        ends[place] = len(positions)
    return Row(
        parts,
        Layout(
            positions_T=torch.tensor(positions),
            ends_T=torch.tensor(ends),
            before_T=torch.tensor(before),
            numbers_N=torch.zeros(0, dtype=torch.long),
            trees=tuple(trees),
            conversations=len(conversations),
            root=root,
        ),
    )


def one_after_another(stretches: Sequence[tuple[int, int]]) -> Layout:
    """The layout of stretches of conversations, by their first place and behind their last, that share nothing."""
    ends = list(accumulate(end - begin for begin, end in stretches))
    begins = [0, *ends[:-1]]
    lengths = torch.tensor([end - begin for begin, end in stretches])
    before_T = torch.arange(ends[-1]) - 1
    before_T[begins] = NOTHING
    return Layout(
        positions_T=torch.cat([torch.arange(*stretch) for stretch in stretches]),
        ends_T=torch.tensor(ends).repeat_interleave(lengths),
        before_T=before_T,
        numbers_N=torch.zeros(0, dtype=torch.long),
        trees=tuple(Tree(begin, end, end) for begin, end in zip(begins, ends, strict=True)),
        conversations=len(stretches),
    )


def _root(conversations: Sequence[Sequence[int]], *, shareable: Sequence[int], groups: Sequence[int]) -> int:
    """How many tokens all trees begin with; none where there is one tree, whose trunk they are."""
    if len(set(groups)) < 2:
        return 0
    alike = min(_alike(conversations[0], one) for one in conversations)
    root = min(alike, *shareable)
    return root if root >= SHORTEST_ROOT else 0


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two conversations begin with alike."""
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)


def sees(ends_T: Tensor, query: Any, key: Any) -> Any:
    """Whether the token at place `query` sees the one at `key`: numbers, or tensors of them."""
    return (key <= query) & (query < ends_T[key])


def dense_mask(ends_T: Tensor) -> Tensor:
    """Which token (row) sees which (column), for a kernel without a notion of trees (T, T)."""
    places_T = torch.arange(len(ends_T), device=ends_T.device)
    mask_QK: Tensor = sees(ends_T, places_T[:, None], places_T[None, :])
    return mask_QK
