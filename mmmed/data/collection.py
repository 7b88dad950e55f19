"""Conversations of one split, with what is needed to order and to weigh them at hand, whatever is read later.

Those of a small source lie in memory; those of a prepared one are read from its table when they are asked for.
"""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mmmed.records import Example


@dataclass(frozen=True)
class Coded:
    """A value for each conversation, kept as a number.

    Args:
        values: The distinct ones.
        codes: Which of them each conversation has.
    """

    values: Sequence[Hashable]
    codes: NDArray[np.int64]


class Collection(Sequence[Example]):
    """Conversations that may be made when they are asked for."""

    @property
    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """Characters of text in each."""

    @property
    @abstractmethod
    def kinds(self) -> Coded:
        """Source of each, and topic of those that hold one answer."""

    @property
    @abstractmethod
    def answers(self) -> Coded:
        """The right option of each closed question that is asked alone; an empty text for all others."""

    @abstractmethod
    def conversation(self, place: int) -> Example:
        """The one at a place from 0 to the length."""

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        places = range(len(self))[index]
        return (
            [self.conversation(place) for place in places] if isinstance(places, range) else self.conversation(places)
        )


class Listed(Collection):
    """Conversations in memory."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([sum(len(turn.text) for turn in one.turns) for one in self._examples], dtype=np.int64)

    @property
    def kinds(self) -> Coded:
        return coded((one.source, one.topic if is_alone(one) else "") for one in self._examples)

    @property
    def answers(self) -> Coded:
        return coded(one.reference if one.options and is_alone(one) else "" for one in self._examples)

    def conversation(self, place: int) -> Example:
        return self._examples[place]


class Chained(Collection):
    """The conversations of several collections, one after another."""

    def __init__(self, parts: Sequence[Collection]) -> None:
        self._parts = parts
        self._ends = [int(end) for end in np.cumsum([len(part) for part in parts])]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.concatenate([part.lengths for part in self._parts])

    @property
    def kinds(self) -> Coded:
        return distinct([part.kinds for part in self._parts])

    @property
    def answers(self) -> Coded:
        return distinct([part.answers for part in self._parts])

    def conversation(self, place: int) -> Example:
        part = bisect_right(self._ends, place)
        return self._parts[part].conversation(place - (self._ends[part - 1] if part else 0))


def coded(values: Iterable[Hashable]) -> Coded:
    """Number values in the order in which they first come."""
    known: dict[Hashable, int] = {}
    codes = [known.setdefault(value, len(known)) for value in values]
    return Coded(list(known), np.array(codes, dtype=np.int64))


def is_alone(conversation: Example) -> bool:
    """Whether one answer is given in it."""
    return sum(turn.speaker == "assistant" for turn in conversation.turns) == 1


def distinct(parts: Sequence[Coded]) -> Coded:
    """Several runs of values as one, in which each value has one number."""
    known: dict[Hashable, int] = {}
    maps = [np.array([known.setdefault(one, len(known)) for one in part.values], dtype=np.int64) for part in parts]
    codes = [translate[part.codes] for translate, part in zip(maps, parts, strict=True)]
    return Coded(list(known), np.concatenate(codes))
