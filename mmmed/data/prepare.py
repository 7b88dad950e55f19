"""From a source as published to a folder that training reads: checked, split, sharded, and described."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath

from filelock import FileLock, Timeout
from tqdm import tqdm

from mmmed.data.card import cards_folder, read_card
from mmmed.data.datamodule import write_quarantine
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.privacy import Privacy, guarded
from mmmed.data.manifest import SplitManifest, content_hash, make_manifest, write_manifest
from mmmed.data.picture_shards import PictureWriter, encode
from mmmed.data.places import Place
from mmmed.data.record_table import PICTURES, TABLE, RecordTable, RecordWriter, replace_splits
from mmmed.data.shards import INDEX, QUARANTINE, Index, Shards
from mmmed.data.source import Source
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, check_disjoint
from mmmed.errors import ConfigError, DataError, ImageError, OutputError, RecordError
from mmmed.page.files import replace_text
from mmmed.records import SPLITS, Example, LazyImage, Quarantined, Split
from mmmed.version import VERSION

SPLIT_FILE = "splits.json"
AUDIT_FILE = "privacy.jsonl"

_AT_ONCE = 64
# Frozen, so that one may be the default of all.
_GATE = Privacy()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How data sets are prepared.

    Args:
        stratify: Attributes, and "label", to even out in a new split; none keeps the splits of the source.
        seed: Of a new split.
        fractions: Shares of the patients in a new split.
        longest_side: Pictures whose longer side has more pixels are shrunk to it, which makes reading them faster;
            None keeps every pixel.
        privacy: How sources that may hold identifiers are made safe; null keeps them as they are.
        threads: Pictures that are decoded and encoded at the same time.
    """

    stratify: tuple[str, ...] = ()
    seed: int = 0
    fractions: Fractions = DEFAULT_FRACTIONS
    longest_side: int | None = None
    privacy: Privacy | None = _GATE
    threads: int = 2

    def __post_init__(self) -> None:
        if self.longest_side is not None and self.longest_side < 1:
            raise ConfigError(f"longest_side is {self.longest_side}; expected pixels, 1 or more, or null")
        if self.threads < 1:
            raise ConfigError(f"threads is {self.threads}; expected 1 or more")


DEFAULT_RECIPE = Recipe()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A data set that was made ready: where it lies, and what it says of itself."""

    folder: Path
    index: Index


@dataclass
class _Written:
    """What a pass through a source leaves beside its files."""

    quarantined: list[Quarantined] = field(default_factory=list)
    pictures: int = 0
    digest: str = ""


def prepare_source(source: Source, target: Path, *, recipe: Recipe) -> Prepared:
    """Validate, set aside, split and shard one source, whole or not at all.

    Args:
        source: The source, already prepared.
        target: Folder of the prepared data set, which replaces an earlier one.
        recipe: How.

    Raises:
        DataError: The source has no good record, or its splits share a patient, a study or a picture.
        OutputError: The folder cannot be written, holds something else, or is being written by another process.
    """
    if target.exists() and not (target / INDEX).is_file():
        raise OutputError(f"{target} is there and is no prepared data set; choose another --output")
    part = target.with_name(f".{target.name}.part")
    lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=0)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            try:
                # What a killed run has left is begun anew.
                shutil.rmtree(part, ignore_errors=True)
                index = _fill(part, source, recipe)
                _put_in_place(part, target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout as error:
        raise OutputError(f"{target} is being prepared by another process; wait for it") from error
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise OutputError(f"cannot write {target}: {reason}; free some space or choose another --output") from error
    return Prepared(folder=target, index=index)


def _fill(part: Path, source: Source, recipe: Recipe) -> Index:
    audit = Audit()
    (safe,) = guarded([source], recipe.privacy, audit)
    gate = source.index.gate if isinstance(source, Shards) else None
    if recipe.privacy is not None and safe is not source:
        gate = {"text": recipe.privacy.text, "images": recipe.privacy.images}
    part.mkdir()
    written = _write(part, safe, recipe, gated=gate is not None)
    examples = RecordTable(part / TABLE, source=source.name, pictures=Place(str(part / PICTURES)), version="")
    if not len(examples):
        why = f", the first for this: {written.quarantined[0].reason}" if written.quarantined else ""
        raise DataError(f"source {source.name!r} has no usable record{why}; check its root and filters")
    if recipe.stratify:
        manifest = make_manifest(examples, seed=recipe.seed, fractions=recipe.fractions, stratify=list(recipe.stratify))
        replace_splits(part / TABLE, manifest.places)
        examples = RecordTable(examples.path, source=source.name, pictures=examples.pictures, version="")
        check_disjoint(examples)
    else:
        check_disjoint(examples)
        manifest = _as_it_is(examples)
    counts = Counter(examples.numbers("split").tolist())
    card = read_card(source.name)
    index = Index(
        source=source.name,
        version=hashlib.sha256(f"{manifest.version} {written.digest}".encode()).hexdigest()[:12],
        examples={split: counts[place] for place, split in enumerate(SPLITS)},
        quarantined=len(written.quarantined),
        pictures=written.pictures,
        gate=gate,
        licence=card.licence,
        forbids=card.forbids,
        made_by=f"mmmed {VERSION}",
    )
    write_quarantine(part / QUARANTINE, written.quarantined)
    write_manifest(manifest, part / SPLIT_FILE)
    shutil.copyfile(cards_folder() / f"{source.name}.md", part / "README.md")
    if audit.checked:
        audit.write(part / AUDIT_FILE)
    replace_text(part / INDEX, json.dumps(dataclasses.asdict(index), indent=1, ensure_ascii=False) + "\n")
    return index


def _write(part: Path, source: Source, recipe: Recipe, *, gated: bool) -> _Written:
    """Write records and pictures as they come; a picture that several records show is written once."""
    written = _Written()
    digest = hashlib.sha256()
    places: dict[str, int | str] = {}
    records, pictures = RecordWriter(part / TABLE), PictureWriter(part / PICTURES)
    # What reads burned-in text is asked by one thread at a time.
    with ThreadPoolExecutor(1 if gated else recipe.threads) as pool, contextlib.closing(records):
        for chunk in _chunks(tqdm(source.records(), desc=f"prepare {source.name}", unit=" records")):
            examples = [one for one in chunk if isinstance(one, Example)]
            new = {image.name: image for one in examples for image in one.images if image.name not in places}
            for name, encoded in zip(new, pool.map(_encoder(recipe.longest_side), new.values()), strict=True):
                if isinstance(encoded, bytes):
                    places[name] = pictures.add(encoded)
                    digest.update(hashlib.sha256(encoded).digest())
                else:
                    places[name] = encoded
            for one in chunk:
                if isinstance(one, Quarantined):
                    written.quarantined.append(one)
                    continue
                try:
                    records.add(one, _placed(one, places, gated=gated))
                except (RecordError, ImageError) as error:
                    written.quarantined.append(Quarantined(one.source, one.id, str(error)))
    pictures.close()
    written.pictures, written.digest = pictures.count, digest.hexdigest()
    return written


def _placed(example: Example, places: Mapping[str, int | str], *, gated: bool) -> list[tuple[int, str]]:
    placed = []
    for image in example.images:
        place = places[image.name]
        if isinstance(place, str):
            raise ImageError(place)
        # The names of a hospital's files may hold identifiers.
        placed.append((place, f"{place}.png" if gated else PurePath(image.name).name))
    return placed


def _encoder(longest_side: int | None) -> Callable[[LazyImage], bytes | str]:
    def encoded(image: LazyImage) -> bytes | str:
        """The picture encoded, or why it cannot be."""
        try:
            return encode(image.open(), longest_side=longest_side)
        except ImageError as error:
            return str(error)

    return encoded


def _chunks(records: Iterable[Example | Quarantined]) -> Iterator[list[Example | Quarantined]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, _AT_ONCE)):
        yield chunk


def _put_in_place(part: Path, target: Path) -> None:
    """Set the new folder where the old one was, of which nothing is lost before the new one is there."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _as_it_is(examples: Sequence[Example]) -> SplitManifest:
    """The splits of the source itself, written down."""
    places: dict[str, Split] = {one.patient: one.split for one in examples}
    counts = Counter(places.values())
    return SplitManifest(
        source=examples[0].source,
        content=content_hash(examples),
        seed=0,
        fractions=Fractions(*(counts[split] / len(places) for split in SPLITS)),
        stratified_by=(),
        places=places,
    )
