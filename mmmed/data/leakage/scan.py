"""The leakage scan: does anything of a training split stand in the test split, under whatever name?

Records stream by once. What is kept of them is who and what stands where, sixteen bytes of each text, and one
thumbnail of each picture.
"""

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmmed.data.leakage.embedding import encoder_neighbours
from mmmed.data.leakage.findings import Finding, Kind, Report
from mmmed.data.leakage.near import LEAST_AGREEMENT, near_pairs
from mmmed.data.leakage.pictures import Thumbnails, thumbnails
from mmmed.data.leakage.texts import BenchmarkIndex, TextIndex
from mmmed.data.source import Source
from mmmed.errors import ConfigError, DataError, did_you_mean
from mmmed.models.vision import VisionEncoder
from mmmed.records import SPLITS, Example, LazyImage, Split

logger = logging.getLogger(__name__)

_SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


class Picture(NamedTuple):
    """One picture of the data, and where it stands."""

    image: LazyImage
    source: str
    splits: set[Split]
    patients: set[str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """What is looked for.

    Args:
        split_by: Attribute that holds the split to be tested, such as official_split; None takes the source's own.
        near: Look for pictures that are the same but for how they were saved, cropped, turned or marked.
        least: Agreement from which two pictures are held to be one.
        seed: Of the search.
    """

    split_by: str | None = None
    near: bool = True
    least: float = LEAST_AGREEMENT
    seed: int = 0


def scan(
    sources: Sequence[Source],
    *,
    settings: ScanSettings | None = None,
    benchmarks: Sequence[Source] = (),
    encoder: VisionEncoder | None = None,
    cache: Path | None = None,
) -> Report:
    """Look for what stands in two splits of these sources, or twice in one.

    Args:
        sources: The data, all splits together.
        settings: What is looked for.
        benchmarks: Data that training must not have seen; all their splits count as the benchmark.
        encoder: Its nearest neighbours are compared too; None leaves that out.
        cache: File for thumbnails.

    Raises:
        DataError: A source cannot be read, or lacks the attribute that holds the split.
    """
    settings = settings or ScanSettings()
    benchmark = BenchmarkIndex(one for source in benchmarks for one in examples(source))
    texts, owners = TextIndex(), _Owners()
    pictures: dict[str, Picture] = {}
    seen = 0
    for example in (one for source in sources for one in split_again(source, by=settings.split_by)):
        seen += 1
        texts.add(example)
        owners.add(example)
        if example.split != "test":
            benchmark.add(example)
        for image in example.images:
            picture = pictures.setdefault(image.name, Picture(image, example.source, set(), set()))
            picture.splits.add(example.split)
            picture.patients.add(example.patient)
    listed = list(pictures.values())
    small = thumbnails([one.image for one in listed], cache=cache)
    found = [*owners.findings(), *texts.findings(), *benchmark.findings(), *exact_findings(listed, small)]
    looked_at = {"examples": seen, "pictures": len(listed), "benchmark items": len(benchmark)}
    if settings.near:
        near = _near(listed, small, settings=settings, encoder=encoder)
        found += near.findings
        looked_at |= {"picture pairs compared": near.compared, "blank pictures": near.blank}
    kinds: tuple[Kind, ...] = ("patient", "study", "image", "near image", "text", "benchmark")
    found.sort(key=lambda one: (not one.is_across, kinds.index(one.kind), -one.score))
    return Report(findings=found, looked_at=looked_at, unreadable=small.reasons, settings=dataclasses.asdict(settings))


def examples(source: Source) -> Iterator[Example]:
    """The good records of a source; those that are set aside take part in nothing."""
    return (one for one in source.records() if isinstance(one, Example))


def split_again(source: Source, *, by: str | None) -> Iterator[Example]:
    """The examples of a source with the split that an attribute holds.

    Raises:
        DataError: An example lacks the attribute, or it holds no split.
    """
    for example in examples(source):
        yield example if by is None else dataclasses.replace(example, split=_split_of(example, by=by))


def _split_of(example: Example, *, by: str) -> Split:
    if by not in example.attributes:
        raise ConfigError(
            f"{example.source}:{example.id} has no attribute {by!r}{did_you_mean(by, example.attributes)}; "
            "name one that holds the split"
        )
    word = str(example.attributes[by]).casefold()
    if word not in _SPLIT_WORDS:
        raise DataError(f"{example.source}:{example.id}: {by} is {word!r}; expected {', '.join(SPLITS)} or the like")
    return _SPLIT_WORDS[word]


class _Owners:
    """Patients and studies, and the splits they stand in."""

    def __init__(self) -> None:
        self._places: dict[tuple[Kind, str, str], set[Split]] = defaultdict(set)

    def add(self, example: Example) -> None:
        self._places["patient", example.source, example.patient].add(example.split)
        if example.study:
            self._places["study", example.source, example.study].add(example.split)

    def findings(self) -> list[Finding]:
        return [
            Finding(kind=kind, first=name, second=name, splits=pair, sources=(source, source))
            for (kind, source, name), splits in self._places.items()
            for pair in _pairs_of_splits(splits)
        ]


def exact_findings(pictures: Sequence[Picture], small: Thumbnails) -> list[Finding]:
    """Pictures that hold the same pixels: across splits each one of the later split, within a split each repetition."""
    groups: dict[bytes, list[Picture]] = defaultdict(list)
    for picture, content, is_readable in zip(pictures, small.content_N32, small.is_readable_N, strict=True):
        if is_readable:
            groups[content.tobytes()].append(picture)
    found = []
    for group in groups.values():
        first_of: dict[Split, Picture] = {}
        for picture in group:
            for split in SPLITS:
                if split in picture.splits:
                    if split in first_of:
                        found.append(_same("image", first_of[split], picture, (split, split), 1.0))
                    first_of.setdefault(split, picture)
        for split, other in _pairs_of_splits(first_of):
            found += [
                _same("image", first_of[split], picture, (split, other), 1.0)
                for picture in group
                if other in picture.splits
            ]
    return found


class _Near(NamedTuple):
    findings: list[Finding]
    compared: int
    blank: int


def _near(
    pictures: Sequence[Picture], small: Thumbnails, *, settings: ScanSettings, encoder: VisionEncoder | None
) -> _Near:
    """Near copies among pictures of different content; of those with the same content the first stands for all."""
    _, first_N, group_N = np.unique(small.content_N32, axis=0, return_index=True, return_inverse=True)
    group_N = group_N.reshape(-1)
    chosen = np.sort(first_N[small.is_readable_N[first_N]])
    also: list[tuple[int, int]] = []
    if encoder is not None:
        also = encoder_neighbours([pictures[place].image for place in chosen], encoder)
    near = near_pairs(small.brightness_NSS[chosen], least=settings.least, also=also, seed=settings.seed)
    members: dict[int, list[Picture]] = defaultdict(list)
    for picture, group in zip(pictures, group_N, strict=True):
        members[int(group)].append(picture)
    found = []
    for pair in near.pairs:
        ones, others = (members[int(group_N[chosen[place]])] for place in (pair.first, pair.second))
        found += _across_or_within(ones, others, score=pair.agreement)
    return _Near(found, near.compared, len(near.blank))


def _across_or_within(ones: Sequence[Picture], others: Sequence[Picture], *, score: float) -> list[Finding]:
    """One finding for each two splits that near copies stand in; one within a split where there is none across."""
    first_one = {split: picture for picture in reversed(ones) for split in picture.splits}
    first_other = {split: picture for picture in reversed(others) for split in picture.splits}
    across = [
        _same("near image", *_in_order((first_one[a], a), (first_other[b], b)), score)
        for a in SPLITS
        for b in SPLITS
        if a != b and a in first_one and b in first_other
    ]
    if across:
        return across
    split = next(iter(first_one))
    return [_same("near image", first_one[split], first_other[split], (split, split), score)]


def _in_order(one: tuple[Picture, Split], other: tuple[Picture, Split]) -> tuple[Picture, Picture, tuple[Split, Split]]:
    (first, a), (second, b) = sorted((one, other), key=lambda place: SPLITS.index(place[1]))
    return first, second, (a, b)


def _same(kind: Kind, first: Picture, second: Picture, splits: tuple[Split, Split], score: float) -> Finding:
    return Finding(
        kind=kind,
        first=first.image.name,
        second=second.image.name,
        splits=splits,
        sources=(first.source, second.source),
        score=score,
    )


def _pairs_of_splits(splits: Iterable[Split]) -> list[tuple[Split, Split]]:
    present = [split for split in SPLITS if split in splits]
    return [(a, b) for place, a in enumerate(present) for b in present[place + 1 :]]
