"""The seam of all data sets: a `Source` yields `Example`s and quarantined records, and touches no tensor."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from tqdm import tqdm

from mmmed.errors import DataError, ImageError
from mmmed.records import Example, LazyImage, Quarantined, Split


class Source(Protocol):
    """One data set. Its constructor only stores arguments; reading happens in `records`."""

    @property
    def name(self) -> str:
        """Of the data set, under which its card is found."""
        ...

    def prepare(self) -> None:
        """Make what `records` needs (render, unpack), with progress; safe to call again."""
        ...

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield every record of every split, in a fixed order. Raises `DataError` if the data set is not there."""
        ...


class Snapshot:
    """A source whose records are read once, for whoever goes through them several times."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._records = list(source.records())

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the records as they were read."""
        yield from self._records


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
            raise nothing_usable(source, split)
    return Records(examples, quarantined)


def nothing_usable(source: Source, split: Split) -> DataError:
    """The error for a source without a record of a split."""
    return DataError(f"source {source.name!r} has no usable {split} record; check its root and filters")


def decodable(examples: Sequence[Example]) -> Records:
    """Set aside examples with an image that cannot be decoded; each image is tried once."""
    verdicts: dict[str, str] = {}
    good: list[Example] = []
    bad: list[Quarantined] = []
    for example in tqdm(examples, desc="pictures", unit="example", disable=None, leave=False):
        reasons = [reason for image in example.images if (reason := _fault(image, verdicts))]
        if reasons:
            bad.append(Quarantined(example.source, example.id, reasons[0]))
        else:
            good.append(example)
    return Records(good, bad)


def _fault(image: LazyImage, verdicts: dict[str, str]) -> str:
    if image.name not in verdicts:
        try:
            image.open()
            verdicts[image.name] = ""
        except ImageError as error:
            verdicts[image.name] = str(error)
    return verdicts[image.name]
