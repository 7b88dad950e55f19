"""The seam of all data sets: a `Source` yields `Example`s and quarantined records, and touches no tensor."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from mmmed.errors import DataError, RecordError
from mmmed.records import Example, Quarantined, Split


class Source(Protocol):
    """One data set. Its constructor only stores arguments; reading happens in `records`."""

    name: str

    def prepare(self) -> None:
        """Make what `records` needs (render, unpack), with progress; safe to call again."""
        ...

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield every record of every split, in a fixed order. Raises `DataError` if the data set is not there."""
        ...


class Records(NamedTuple):
    """The good records of one split, and all that was set aside."""

    examples: list[Example]
    quarantined: list[Quarantined]


def read(sources: Iterable[Source], split: Split) -> Records:
    """Read one split of several sources, in order.

    Raises:
        DataError: A source has no record of this split.
    """
    examples: list[Example] = []
    quarantined: list[Quarantined] = []
    for source in sources:
        before = len(examples)
        for record in source.records():
            if isinstance(record, Quarantined):
                quarantined.append(record)
            elif record.split == split:
                examples.append(record)
        if len(examples) == before:
            raise DataError(f"source {source.name!r} has no usable {split} record; check its root and filters")
    return Records(examples, quarantined)


__all__ = ["Records", "RecordError", "Source", "read"]
