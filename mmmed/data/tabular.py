"""CSV and JSON annotation files, read strictly: a missing column stops the run, a bad row is set aside and counted."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol, TextIO, TypeVar

from mmmed.errors import DataError, RecordError, did_you_mean
from mmmed.processing.image import ImageFile
from mmmed.records import IMAGE_PLACEHOLDER, Example, Quarantined

# Characters of a name in a message; a damaged file may hold any number.
_SHOWN = 200

OLDEST = 120
"""Highest age in years that is believed; the files hold typing errors such as 411."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record of an annotation file, all cells as trimmed text.

    Args:
        place: File and line or number, to find the record again.
        cells: Text by column; an absent value is empty.
        fault: Why the row as a whole cannot be read, empty if it can.
    """

    place: str
    cells: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""

    def text(self, column: str) -> str:
        """A cell that must be filled. Raises `RecordError` where it is empty."""
        value = self.cells.get(column, "")
        if not value:
            raise RecordError(f"{column!r} is empty")
        return value

    def line(self, column: str, *, fewest_words: int = 1) -> str:
        """A cell of free text, on one line.

        Raises:
            RecordError: It is empty or too short, or holds the mark of an image, which would be taken for one.
        """
        text = " ".join(self.text(column).split())
        if IMAGE_PLACEHOLDER in text:
            raise RecordError(f"{column!r} holds {IMAGE_PLACEHOLDER!r}, which is put before the question; leave it out")
        if len(text.split()) < fewest_words:
            raise RecordError(f"{column!r} is {text!r}; expected {fewest_words} words or more")
        return text

    def maybe(self, column: str) -> str:
        """A cell that may be empty or, in some versions of the file, absent."""
        return self.cells.get(column, "")

    def one_of(self, column: str, known: Iterable[str]) -> str:
        """A filled cell with one of the known values. Raises `RecordError` for any other."""
        value = self.text(column)
        names = list(known)
        if value not in names:
            raise RecordError(f"{column!r} is {value!r}{did_you_mean(value, names)}")
        return value


class Placed(Protocol):
    """A record as read, of whatever kind of file."""

    @property
    def place(self) -> str: ...

    @property
    def fault(self) -> str: ...


Found = TypeVar("Found", bound=Placed)


def read_csv(path: Path, *, columns: Sequence[str]) -> Iterator[Row]:
    """Read a comma-separated file with a header, packed with gzip where its name ends in ``.gz``.

    Raises:
        DataError: The file is not UTF-8 text, not CSV, or lacks a column.
    """
    try:
        with _open_text(path) as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            require_columns(path, found=header, columns=columns)
            for cells in reader:
                if cells:
                    yield _csv_row(cells, header=header, place=f"{path.name}:{reader.line_num}")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8 ({error}); fetch it again") from error


def read_headless_csv(path: Path, *, columns: Sequence[str]) -> Iterator[Row]:
    """Read a file without a header, whose columns are known from its documentation.

    Raises:
        DataError: The file is not UTF-8 text or not CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells:
                    yield _csv_row(cells, header=list(columns), place=f"{path.name}:{reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8 ({error}); fetch it again") from error


def read_header(path: Path) -> list[str]:
    """Column names of a CSV file, to tell the versions of a data set apart. Raises `DataError` for unreadable text."""
    try:
        with _open_text(path) as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8 ({error}); fetch it again") from error


def read_json(path: Path, *, columns: Sequence[str]) -> list[Row]:
    """Read a JSON array of objects (`.json`), or one object a line (`.jsonl`).

    Raises:
        DataError: The file is not UTF-8 text, not JSON, or no record has one of the columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_lines(text, name=path.name) if path.suffix == ".jsonl" else _json_array(text, name=path.name)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON in UTF-8 ({error}); fetch it again") from error
    require_columns(path, found=list(dict.fromkeys(name for row in rows for name in row.cells)), columns=columns)
    return rows


def json_row(record: object, *, place: str) -> Row:
    """An object of a JSON file as cells. It has a fault where it is none, or holds what no file can hold."""
    if not isinstance(record, dict):
        return Row(place, fault=f"expected an object, not {type(record).__name__}")
    cells = {str(name).strip(): _as_text(value) for name, value in record.items()}
    if any(map(is_torn, (*cells, *cells.values()))):
        return Row(place, fault="holds half a character, which cannot be written; mend or remove the record")
    return Row(place, cells)


def is_torn(text: str) -> bool:
    """Whether a text holds half of a character, which JSON can say and no file can hold."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def table(folder: Path, name: str) -> Path | None:
    """A CSV file of a release, packed with gzip or not; None where there is neither."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def require_columns(path: Path, *, found: Sequence[str], columns: Sequence[str]) -> None:
    """Raise `DataError` that names the file, what it lacks and what it has."""
    missing = [column for column in columns if column not in found]
    if missing:
        raise DataError(
            f"{path} lacks the column(s) {', '.join(map(repr, missing))}; "
            f"it has {', '.join(map(repr, found)) or 'none'}; "
            "use the file of the release named in the data set's card"
        )


def quarantine(
    source: str, rows: Iterable[Found], read: Callable[[Found], Iterable[Example]]
) -> Iterator[Example | Quarantined]:
    """Turn rows into examples; one that raises `RecordError` or repeats an identifier is set aside, with the reason."""
    seen: set[str] = set()
    for row in rows:
        try:
            if row.fault:
                raise RecordError(row.fault)
            examples = list(read(row))
            repeated = [example.id for example in examples if example.id in seen]
            if repeated:
                raise RecordError(f"the identifier {repeated[0]!r} is used before")
        except RecordError as error:
            yield Quarantined(source, row.place, str(error))
        else:
            seen.update(example.id for example in examples)
            yield from examples


def image_in(root: Path, name: str) -> ImageFile:
    """The image of a record, which must be there. Raises `RecordError` where it is missing or outside the root."""
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise RecordError(f"image {name!r} lies outside the data set")
    path = root / inside
    try:
        found = path.is_file()
    except OSError:  # longer than a name may be
        found = False
    if not found:
        raise RecordError(f"image {name[:_SHOWN]!r} is missing")
    return ImageFile(path)


def index_images(folders: Iterable[Path]) -> dict[str, Path]:
    """Files of several folders by name, listed once: asking for each of 100,000 files in turn takes minutes."""
    return {path.name: path for folder in folders for path in folder.iterdir() if path.is_file()}


def indexed_image(images: Mapping[str, Path], name: str) -> ImageFile:
    """The image of a record from `index_images`. Raises `RecordError` where it is missing."""
    if name not in images:
        raise RecordError(f"image {name!r} is missing")
    return ImageFile(images[name])


def age_in_years(text: str) -> float:
    """Read an age such as ``61``, ``61.0``, ``058Y`` or ``011M`` (months) or ``020D`` (days).

    Raises:
        RecordError: It is no age, or over `OLDEST` years.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([YMD]?)", text)
    years = float(match[1]) / {"": 1, "Y": 1, "M": 12, "D": 365.25}[match[2]] if match else -1.0
    if not 0 <= years <= OLDEST:
        raise RecordError(f"{text!r} is no age between 0 and {OLDEST} years")
    return round(years, 2)


def present(attributes: Mapping[str, str | float | None]) -> dict[str, str | float]:
    """Drop what is not known, so that an attribute is either a fact or absent."""
    return {name: value for name, value in attributes.items() if value not in ("", None)}


def no_layout(source: str, *, root: Path, expected: str) -> DataError:
    """The error for a root that holds none of the known layouts."""
    return DataError(
        f"{source}: no data set under root {str(root)!r}; expected {expected}; "
        f"how to obtain it stands in the card data/{source}.md"
    )


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv_row(cells: list[str], *, header: list[str], place: str) -> Row:
    if len(cells) != len(header):
        return Row(place, fault=f"{len(cells)} cells where the header has {len(header)}")
    return Row(place, {name: cell.strip() for name, cell in zip(header, cells, strict=True)})


def _json_lines(text: str, *, name: str) -> list[Row]:
    lines = enumerate(text.split("\n"), start=1)
    return [_json_line(line, place=f"{name}:{number}") for number, line in lines if line.strip()]


def _json_line(line: str, *, place: str) -> Row:
    try:
        return json_row(json.loads(line), place=place)
    except (ValueError, RecursionError) as error:
        return Row(place, fault=f"no JSON ({error})")


def _json_array(text: str, *, name: str) -> list[Row]:
    records = json.loads(text)
    if not isinstance(records, list):
        raise ValueError(f"expected an array of objects, not {type(records).__name__}")
    return [json_row(record, place=f"{name}[{number}]") for number, record in enumerate(records)]


def _as_text(value: object) -> str:
    # Counts stand as numbers in some files; "2" and 2.0 are the same answer.
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return " ".join(str(value).split())
