"""Conversations of one split, with what is needed to order and to weigh them at hand, whatever is read later.

Those of a small source lie in memory; those of a prepared one are read from its table when they are asked for.
"""

import hashlib
import json
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
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

    @property
    @abstractmethod
    def pictures(self) -> int:
        """About how many distinct pictures they show."""

    @property
    @abstractmethod
    def picture_sets(self) -> NDArray[np.int64]:
        """A number for each, the same for those about the same pictures and no others."""

    def digest(self) -> str:
        """SHA-256 over ids, patients, splits, texts and names of pictures, in order: equal data, equal digest."""
        return digest_of(self)

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

    @property
    def picture_sets(self) -> NDArray[np.int64]:
        return picture_sets(self._examples)

    @property
    def pictures(self) -> int:
        return len({image.name for one in self._examples for image in one.images})

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

    @property
    def pictures(self) -> int:
        return sum(part.pictures for part in self._parts)

    @property
    def picture_sets(self) -> NDArray[np.int64]:
        if all(isinstance(part, Listed) for part in self._parts):
            return picture_sets(self)
        # A prepared data set has pictures of its own.
        sets = [part.picture_sets for part in self._parts]
        starts = np.cumsum([0, *(int(one.max(initial=-1)) + 1 for one in sets[:-1])])
        return np.concatenate([one + start for one, start in zip(sets, starts, strict=True)])

    def digest(self) -> str:
        if all(isinstance(part, Listed) for part in self._parts):
            return digest_of(self)
        return hashlib.sha256(" ".join(part.digest() for part in self._parts).encode()).hexdigest()

    def conversation(self, place: int) -> Example:
        part = bisect_right(self._ends, place)
        return self._parts[part].conversation(place - (self._ends[part - 1] if part else 0))


def coded(values: Iterable[Hashable]) -> Coded:
    """Number values in the order in which they first come."""
    known: dict[Hashable, int] = {}
    codes = [known.setdefault(value, len(known)) for value in values]
    return Coded(list(known), np.array(codes, dtype=np.int64))


def picture_sets(examples: Iterable[Example]) -> NDArray[np.int64]:
    """A number for each example, the same for those about the same pictures; one without pictures is by itself."""
    sets: dict[tuple[str, ...], int] = {}
    numbers = []
    for place, example in enumerate(examples):
        names = tuple(image.name for image in example.images) or (str(place),)
        numbers.append(sets.setdefault(names, len(sets)))
    return np.array(numbers, dtype=np.int64)


def digest_of(examples: Iterable[Example]) -> str:
    """SHA-256 over ids, patients, splits and texts, in order: equal data, equal digest."""
    digest = hashlib.sha256()
    for example in examples:
        names = [Path(image.name).name for image in example.images]
        turns = [(turn.speaker, turn.text, *filter(None, [turn.rejected])) for turn in example.turns]
        record = (example.source, example.id, example.patient, example.split, names, turns, example.options)
        digest.update(json.dumps(record, ensure_ascii=False).encode())
    return digest.hexdigest()


def is_alone(conversation: Example) -> bool:
    """Whether one answer is given in it."""
    return sum(turn.speaker == "assistant" for turn in conversation.turns) == 1


def distinct(parts: Sequence[Coded]) -> Coded:
    """Several runs of values as one, in which each value has one number."""
    known: dict[Hashable, int] = {}
    maps = [np.array([known.setdefault(one, len(known)) for one in part.values], dtype=np.int64) for part in parts]
    codes = [translate[part.codes] for translate, part in zip(maps, parts, strict=True)]
    return Coded(list(known), np.concatenate(codes))
