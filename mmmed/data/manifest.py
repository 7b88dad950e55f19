"""Splits that are written down: who stands where, and of which content that was decided.

A split is a result that others build on. The file names every patient's place and holds a hash of the records it was
made from; when the records change, it is refused instead of quietly meaning something else.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mmmed.data.source import Source
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, stratified
from mmmed.errors import ConfigError, DataError
from mmmed.page.files import replace_text
from mmmed.records import SPLITS, Example, Quarantined, Split

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitManifest:
    """A split of one source, written down.

    Args:
        source: Name of the source.
        content: Hash of the records, as `content_hash` makes it.
        seed: What the places were drawn with.
        fractions: Share of the patients in each split that was aimed at.
        stratified_by: Attributes, and "label" for the answers, that were evened out.
        places: Split of each patient.
    """

    source: str
    content: str
    seed: int
    fractions: Fractions
    stratified_by: tuple[str, ...]
    places: Mapping[str, Split]

    @property
    def version(self) -> str:
        """A short name that changes with the records and with anybody's place."""
        return hashlib.sha256(_as_json(self).encode()).hexdigest()[:12]


class WithSplits:
    """A source with the splits of a file in place of its own.

    Args:
        source: The source.
        manifest: The file, as `mmmed data prepare` writes it.
    """

    def __init__(self, source: Source, manifest: str) -> None:
        self.source = source
        self.manifest = Path(manifest)
        self.name = source.name

    def prepare(self) -> None:
        """Make what the source needs."""
        self.source.prepare()

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the records of the source with their new splits.

        Raises:
            DataError: The manifest cannot be read, is of another source, or its records have changed.
        """
        manifest = read_manifest(self.manifest)
        records = list(self.source.records())
        check_content(manifest, [one for one in records if isinstance(one, Example)], place=str(self.manifest))
        for one in records:
            yield dataclasses.replace(one, split=manifest.places[one.patient]) if isinstance(one, Example) else one


def make_manifest(
    examples: Sequence[Example],
    *,
    seed: int,
    fractions: Fractions = DEFAULT_FRACTIONS,
    stratify: Sequence[str] = (),
) -> SplitManifest:
    """Split the patients of one source anew.

    Args:
        examples: All records of the source.
        seed: Changes who goes where.
        fractions: Share of the patients in each split.
        stratify: Attributes to even out over the splits, and "label" for the answers to closed questions. A text with
            ";" holds several values; ages are taken by decade.

    Raises:
        DataError: There is no record, or they are of several sources.
        ConfigError: No record has one of the attributes.
    """
    sources = {example.source for example in examples}
    if len(sources) != 1:
        raise DataError(f"a split is made of one source; these records are of {len(sources)}")
    tags: dict[str, set[str]] = {}
    for example in examples:
        tags.setdefault(example.patient, set()).update(_tags(example, stratify))
    for name in stratify:
        if not any(tag.startswith(f"{name}=") for mine in tags.values() for tag in mine):
            raise ConfigError(f"no record of {sources.pop()} has {name!r}; name an attribute of it, or 'label'")
    return SplitManifest(
        source=sources.pop(),
        content=content_hash(examples),
        seed=seed,
        fractions=fractions,
        stratified_by=tuple(stratify),
        places=stratified(tags, seed=seed, fractions=fractions),
    )


def content_hash(examples: Iterable[Example]) -> str:
    """SHA-256 of what the records say, whatever their order, their splits and the folder they lie in.

    Pictures count by file name; their pixels are not read.
    """
    digests = sorted(hashlib.sha256(_said(example).encode()).digest() for example in examples)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def check_content(manifest: SplitManifest, examples: Sequence[Example], *, place: str) -> None:
    """Refuse records that are not those the split was made from.

    Raises:
        DataError: They are of another source, or have changed.
    """
    if others := {example.source for example in examples} - {manifest.source}:
        raise DataError(f"{place} splits {manifest.source!r}, not {others.pop()!r}; name the file of this source")
    if content_hash(examples) != manifest.content:
        raise DataError(
            f"the records of {manifest.source!r} are not those that {place} was made from (their hash differs); "
            "restore them, or split anew with `mmmed data prepare`"
        )


def write_manifest(manifest: SplitManifest, path: Path) -> None:
    """Write a split as JSON, whole or not at all. Raises `OutputError`."""
    replace_text(path, _as_json(manifest))


def read_manifest(path: Path) -> SplitManifest:
    """Read a split. Raises `DataError` where the file is missing or is none."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a split ({error}); make one with `mmmed data prepare`") from error
    try:
        if raw["version"] != _VERSION or not set(raw["places"]) <= set(SPLITS):
            raise ValueError(f"version {raw['version']}, splits {sorted(raw['places'])}")
        return SplitManifest(
            source=raw["source"],
            content=raw["content"],
            seed=raw["seed"],
            fractions=Fractions(*raw["fractions"]),
            stratified_by=tuple(raw["stratified_by"]),
            places={patient: split for split in SPLITS for patient in raw["places"].get(split, [])},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no split of version {_VERSION} ({error}); make it anew") from error


def _as_json(manifest: SplitManifest) -> str:
    places = {split: sorted(one for one, where in manifest.places.items() if where == split) for split in SPLITS}
    written = dataclasses.asdict(manifest) | {"version": _VERSION, "places": places}
    return json.dumps(written, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _tags(example: Example, stratify: Sequence[str]) -> Iterator[str]:
    for name in stratify:
        if name == "label":
            if example.options:
                yield f"label={example.topic}:{example.reference}"
        elif name in example.attributes:
            value = example.attributes[name]
            if isinstance(value, str):
                yield from (f"{name}={part.strip()}" for part in value.split(";"))
            else:
                yield f"{name}={int(value // 10) * 10}"


def _said(example: Example) -> str:
    attributes = {name: example.attributes[name] for name in sorted(example.attributes)}
    turns = [(turn.speaker, turn.text, turn.blanks, turn.rejected) for turn in example.turns]
    images = [PurePath(image.name).name for image in example.images]
    said = (example.source, example.id, example.patient, example.study, turns, example.options, images, attributes)
    return json.dumps(said, ensure_ascii=False)
