"""Data sets as `mmmed data prepare` leaves them: checked, split, and quick to open and to read however large."""

import hashlib
import json
from collections.abc import Collection as Group
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmed.data.collection import Coded, Collection, distinct
from mmmed.data.conversation import Join, joined, parts
from mmmed.data.picture_shards import reader
from mmmed.data.places import Place
from mmmed.data.record_table import PICTURES, TABLE, RecordTable
from mmmed.errors import DataError
from mmmed.models.weights import cache_folder
from mmmed.records import SPLITS, Example, Quarantined, Split

INDEX = "index.json"
QUARANTINE = "quarantine.jsonl"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Index:
    """What a prepared data set says of itself.

    Args:
        source: Name of the data set.
        version: Changes with the records, with anybody's split, and with the pictures.
        examples: Number of examples by split.
        quarantined: Records that were set aside.
        pictures: Distinct pictures.
        gate: The privacy gate that the records went through, None for none.
        licence: Terms of use.
        forbids: What the terms do not allow.
        made_by: What prepared it.
        format: Of the files.
    """

    source: str
    version: str
    examples: dict[Split, int]
    quarantined: int
    pictures: int
    gate: dict[str, str] | None
    licence: str
    forbids: tuple[str, ...]
    made_by: str
    format: int = FORMAT


class Shards:
    """Reads a prepared data set.

    Args:
        root: Its folder, or the URL of one that fsspec reads, such as s3://bucket/prepared/vqa_rad.
        cache: Folder in which the files of a URL are kept once fetched; None takes the one of this user.
    """

    def __init__(self, root: str, *, cache: str | None = None) -> None:
        self.root = root
        self.cache = cache

    @cached_property
    def index(self) -> Index:
        """What it says of itself. Raises `DataError` where there is no prepared data set."""
        return read_index(Place(self.root))

    @cached_property
    def name(self) -> str:
        """Name of the data set that was prepared, under which its card is found."""
        return self.index.source

    @cached_property
    def table(self) -> RecordTable:
        """Its examples. Raises `DataError` where they cannot be read."""
        place = self._place()
        return RecordTable(
            place.file(TABLE), source=self.name, pictures=place.inside(PICTURES), version=self.index.version
        )

    def prepare(self) -> None:
        """Fetch the records of a URL; pictures are fetched when they are first asked for."""
        self._place().file(TABLE)

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the examples in the order of the source, and then what was set aside.

        Raises:
            DataError: There is no prepared data set, or a part of it is missing.
        """
        yield from self.table
        yield from self.quarantined()

    def quarantined(self) -> Iterator[Quarantined]:
        """Yield what was set aside when it was prepared."""
        for line in self._place().file(QUARANTINE).read_text(encoding="utf-8").splitlines():
            yield Quarantined(**json.loads(line))

    def _place(self) -> Place:
        place = Place(self.root)
        if not place.is_remote:
            return place
        folder = Path(self.cache) if self.cache else cache_folder() / "shards"
        return Place(self.root, folder / f"{self.name}-{self.index.version}")


class ShardConversations(Collection):
    """Conversations of a split of a prepared data set, read when asked for.

    Args:
        table: Its records.
        split: Which of them.
        topics: Keep only these; None keeps all.
        most_turns: Questions about the same images that are merged into one conversation.
        seed: Of the order of merging.
        join: Which of them, as in `merge`.
    """

    def __init__(
        self, table: RecordTable, split: Split, *, topics: Group[str] | None, most_turns: int, seed: int, join: Join
    ) -> None:
        self._table = table
        self._topics, self._topic_N = table.coded("topic")
        kept_N = table.numbers("split") == SPLITS.index(split)
        if topics is not None:
            kept_N &= np.isin(self._topic_N, [code for code, name in enumerate(self._topics) if name in topics])
        rows = np.flatnonzero(kept_N)
        self.questions = len(rows)
        self._rows, sizes = _merged(table, rows, most_turns=most_turns, seed=seed, join=join)
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        lengths = self._table.numbers("bare_length")[self._rows]
        # Images stand before the first question alone.
        lengths[self._starts] = self._table.numbers("length")[self._rows[self._starts]]
        if len(self):
            lengths = np.add.reduceat(lengths, self._starts)
        return lengths

    @property
    def kinds(self) -> Coded:
        first = self._rows[self._starts]
        alone = (self._ends - self._starts == 1) & self._table.numbers("alone")[first].astype(bool)
        codes = np.where(alone, self._topic_N[first], len(self._topics))
        return distinct([Coded([(self._table.source, topic) for topic in (*self._topics, "")], codes)])

    @property
    def answers(self) -> Coded:
        values, codes = self._table.coded("answer")
        codes = np.where(self._ends - self._starts == 1, codes[self._rows[self._starts]], len(values))
        return distinct([Coded([*values, ""], codes)])

    @property
    def picture_sets(self) -> NDArray[np.int64]:
        sets = self._table.numbers("picture_set")[self._rows[self._starts]]
        # Those that share nothing have numbers of their own behind all others.
        numbers: NDArray[np.int64] = np.where(sets >= 0, sets, sets.max(initial=-1) + 1 + np.arange(len(sets)))
        return numbers

    def digest(self) -> str:
        """Of the version of the data set and of which records are taken, since records change with their version."""
        digest = hashlib.sha256(f"{self._table.source} {self._table.version} ".encode())
        for part in (self._rows, self._ends):
            digest.update(np.ascontiguousarray(part, dtype="<i8").data)
        return digest.hexdigest()

    @property
    def pictures(self) -> int:
        sets = self._table.numbers("picture_set")
        # As many to a set of pictures as there are to one of the whole data set.
        share = len(np.unique(sets[self._rows])) / max(1, len(np.unique(sets)))
        return round(share * len(reader(self._table.pictures, self._table.version)))

    def conversation(self, place: int) -> Example:
        rows = self._rows[self._starts[place] : self._ends[place]]
        return joined([self._table[int(row)] for row in rows])


def read_index(place: Place) -> Index:
    """What a prepared data set says of itself. Raises `DataError` where there is none."""
    try:
        written: dict[str, Any] = json.loads(place.read(INDEX))
        found = written.get("format")
        index = Index(**written | {"forbids": tuple(written.get("forbids", ()))}) if found == FORMAT else None
    except (DataError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"no prepared data set in {place.root}; make one with `mmmed data prepare`") from error
    if index is None:
        raise DataError(f"{place.root} has format {found!r}; this version reads {FORMAT}; prepare it again")
    return index


def _merged(
    table: RecordTable, rows: NDArray[np.int64], *, most_turns: int, seed: int, join: Join
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in the order of `merge`, and how many of them each conversation holds."""
    group_N = _groups(table, rows, join=join)
    order = np.argsort(group_N, kind="stable")
    merged, sizes = rows[order], np.bincount(group_N)
    starts = np.cumsum(sizes) - sizes
    several = np.flatnonzero(sizes > 1)
    names = table.texts("id", merged[starts[several]])
    for start, size, name in zip(starts[several].tolist(), sizes[several].tolist(), names, strict=True):
        group = merged[start : start + size].tolist()
        merged[start : start + size] = list(chain.from_iterable(parts(name, group, most_turns=most_turns, seed=seed)))
    count = -(-sizes // most_turns)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return merged, np.minimum(np.repeat(sizes, count) - within * most_turns, most_turns)


def _groups(table: RecordTable, rows: NDArray[np.int64], *, join: Join) -> NDArray[np.int64]:
    """The group of each row, numbered as they first come; rows of one group may be joined."""
    picture_set, option_set = table.numbers("picture_set")[rows], table.numbers("option_set")[rows]
    joins = picture_set >= 0
    if join == "closed":
        joins &= option_set > 0
    else:
        option_set = np.zeros_like(option_set)
    # Those that stand alone have a key of their own, below all others.
    options = int(option_set.max(initial=0)) + 1
    keys = np.where(joins, picture_set * options + option_set, -1 - np.arange(len(rows)))
    _, first, group_N = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    ranked: NDArray[np.int64] = rank[group_N]
    return ranked
