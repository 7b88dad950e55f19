"""JSON and JSON lines files whose records hold lists, objects and texts of several lines, read strictly.

`tabular` makes one line of every cell; here a text keeps its lines and a value its kind.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmmed.data.tabular import Row, is_torn, json_row, require_columns
from mmmed.errors import DataError, RecordError


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a file, with values as they were written.

    Args:
        place: File and line, number or key, to find the record again.
        values: By name.
        fault: Why the record as a whole cannot be read, empty if it can.
    """

    place: str
    values: Mapping[str, object] = field(default_factory=dict)
    fault: str = ""

    def text(self, name: str) -> str:
        """A text that must be there, trimmed; a number becomes its digits. Raises `RecordError`."""
        value = self.maybe(name)
        if not value:
            raise RecordError(f"{name!r} is empty")
        return value

    def maybe(self, name: str) -> str:
        """A text that may be empty or absent. Raises `RecordError` where it is no text."""
        value = self.values.get(name)
        return "" if value is None else as_text(value, name=name)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of filled texts. Raises `RecordError` where it is something else."""
        values = self.values.get(name)
        if not isinstance(values, list) or not values:
            raise RecordError(f"{name!r} is {shortened(values)}; expected a list of texts")
        texts = tuple(as_text(value, name=name) for value in values)
        if "" in texts:
            raise RecordError(f"{name!r} holds an empty text")
        return texts

    def inner(self, name: str) -> "Entry":
        """An object inside the record. Raises `RecordError` where it is something else."""
        values = self.values.get(name)
        if not isinstance(values, dict):
            raise RecordError(f"{name!r} is {shortened(values)}; expected an object")
        return Entry(self.place, values)

    def whole(self, name: str) -> int:
        """A whole number, also one that was saved as 2.0 or "2". Raises `RecordError` where it is something else."""
        value = self.values.get(name)
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < _DIGITS:
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise RecordError(f"{name!r} is {shortened(value)}; expected a whole number")
        return value


def read_json_lines(path: Path, *, columns: Sequence[str]) -> Iterator[Entry]:
    """Read one object a line, as it goes; a `.gz` is unpacked on the way.

    Raises:
        DataError: The file is not UTF-8 text, or its first object lacks a column.
    """
    known = False
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                entry = _line(line.removeprefix(b"\xef\xbb\xbf"), place=f"{path.name}:{number}")
                if not known and not entry.fault:
                    require_columns(path, found=list(entry.values), columns=columns)
                    known = True
                yield entry
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as JSON lines in UTF-8 ({error}); fetch it again") from error
    if not known:
        require_columns(path, found=(), columns=columns)


def in_cells(entries: Iterable[Entry]) -> Iterator[Row]:
    """The same records as rows of text, for sources whose other files are tables."""
    for entry in entries:
        yield Row(entry.place, fault=entry.fault) if entry.fault else json_row(entry.values, place=entry.place)


def read_json_records(path: Path, *, columns: Sequence[str]) -> list[Entry]:
    """Read an array of objects, or one object of objects, whose keys then name the places.

    Raises:
        DataError: The file is not UTF-8 text, not such JSON, or its first object lacks a column.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON in UTF-8 ({error}); fetch it again") from error
    if isinstance(records, dict):
        # A key of half characters could not be written into the quarantine.
        entries = [_entry(record, place=ascii(key) if is_torn(key) else key) for key, record in records.items()]
    elif isinstance(records, list):
        entries = [_entry(record, place=f"{path.name}[{number}]") for number, record in enumerate(records)]
    else:
        raise DataError(f"{path} holds {type(records).__name__}; expected an array or object of objects")
    first = next((entry for entry in entries if not entry.fault), Entry(""))
    require_columns(path, found=list(first.values), columns=columns)
    return entries


def as_text(value: object, *, name: str) -> str:
    """A text or number as trimmed text. Raises `RecordError`, naming it, where it is neither or no Unicode."""
    if isinstance(value, str):
        text = value.strip()
    elif isinstance(value, float) and value.is_integer():
        text = str(int(value))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = "" if value != value else str(value)
    else:
        raise RecordError(f"{name!r} is {shortened(value)}; expected text")
    if is_torn(text):
        raise RecordError(f"{name!r} holds half a character, which cannot be written; mend or remove the record")
    return text


def shortened(value: object) -> str:
    """A value in few words, for a message."""
    shown = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def plain(text: str) -> str:
    """A text for comparison: in one case and with single spaces."""
    return " ".join(text.casefold().split())


def _line(line: bytes, *, place: str) -> Entry:
    try:
        return _entry(json.loads(line), place=place)
    except (ValueError, RecursionError) as error:
        return Entry(place, fault=f"no JSON in UTF-8 ({error})")


def _entry(record: object, *, place: str) -> Entry:
    if not isinstance(record, dict):
        return Entry(place, fault=f"expected an object, not {type(record).__name__}")
    return Entry(place, record)


_DIGITS = 16
_SHOWN = 60
