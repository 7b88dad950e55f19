"""What is written down of each study that a model answers about: figures alone, no words, no pixels, no names.

A log is a file of JSON lines. Whoever serves a model appends a `Study` when it has answered; whoever keeps the signed
reports appends a `Signed` when a person has signed. `mmmed monitor` reads both (docs/monitoring.md).
"""

import fcntl
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from mmmed.errors import DataError, OutputError, RecordError, did_you_mean
from mmmed.records import Quarantined

SCHEMA = 1
"""Goes up when a line of today could no longer be read rightly."""

Said = Literal["stated", "denied", "unsure", "unmentioned"]
"""As `FindingLabeller` has it; what was not asked about is left out, which is not the same as unmentioned."""

# A code, a finding, a group: short words. What a person would write about a patient does not fit through.
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,38}[^\s\x00-\x1f\x7f])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study as the model met it and answered.

    Args:
        study: A pseudonym, of letters, digits, dots, dashes and underscores; never an accession number or a name.
        time: When it was answered, ISO 8601 with its zone, such as ``2026-11-28T18:40:00+00:00``.
        model: Which model answered: `Session.identity()`, or a name and version.
        embedding: What `embedding.sketch` leaves of the encoder's features; empty where nothing was encoded.
        pixels: Statistics of the picture (`pixels.pixel_statistics`); empty where nothing was decoded.
        view: Projection, such as ``PA``; empty where unknown.
        scanner: Maker and model of the machine, never its serial number; empty where unknown.
        findings: What the answer says of each finding it speaks of.
        words: Length of the answer.
        confidence: Of the answer, in [0, 1]; none where the model gives none.
        abstained: Whether the model declined to answer.
        unparsed: Whether the answer was none of those it could have been.
        latency: Seconds from the question to the whole answer.
        error: Class of the error that kept it from answering, such as ``ImageError``; empty where none did.

    Raises:
        RecordError: Something does not look like what it is to be.
    """

    study: str
    time: str
    model: str
    embedding: tuple[float, ...] = ()
    pixels: Mapping[str, float] = field(default_factory=dict)
    view: str = ""
    scanner: str = ""
    findings: Mapping[str, Said] = field(default_factory=dict)
    words: int | None = None
    confidence: float | None = None
    abstained: bool = False
    unparsed: bool = False
    latency: float | None = None
    error: str = ""

    def __post_init__(self) -> None:
        _check_types(self)
        _check_code(self.study, "study")
        _check_time(self.time)
        _check_label(self.model, "model")
        for name in ("view", "scanner"):
            if value := getattr(self, name):
                _check_label(value, name)
        if self.error:
            _check_code(self.error, "error")
        _check_findings(self.findings)
        for name in self.pixels:
            _check_code(name, "pixels")
        _check_finite([*self.embedding, *self.pixels.values()])
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise RecordError(f"confidence is {self.confidence}; give a share from 0 to 1, or null")
        for name in ("words", "latency"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise RecordError(f"{name} is {value}; give 0 or more, or null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What the person who signed said of the same study, and which groups the patient belongs to.

    Args:
        study: The pseudonym of the study.
        time: When it was signed, ISO 8601 with its zone.
        findings: What the signed report says of each finding.
        groups: Such as ``{"sex": "F", "age": "60-69"}``; ages in bands, those of 90 and more in one.

    Raises:
        RecordError: Something does not look like what it is to be.
    """

    study: str
    time: str
    findings: Mapping[str, Said]
    groups: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_types(self)
        _check_code(self.study, "study")
        _check_time(self.time)
        _check_findings(self.findings)
        for name, value in self.groups.items():
            _check_label(name, "groups")
            _check_label(value, f"groups.{name}")


class Log(NamedTuple):
    """A log as it was read: in the order of arrival, with what could not be read.

    Args:
        studies: The first line of each study.
        signed: The last signature of each study.
        repeated: Later lines of studies that were there already; they are left out, for they tell nothing new.
        quarantined: Lines that could not be read, without what stands in them.
    """

    studies: tuple[Study, ...]
    signed: tuple[Signed, ...]
    repeated: int
    quarantined: tuple[Quarantined, ...]


_KINDS: dict[str, type[Study] | type[Signed]] = {"study": Study, "signed": Signed}


def append(path: Path, record: Study | Signed) -> None:
    """Add a line to a log, whole and on the disk when this returns; several processes may do so at once.

    Raises:
        OutputError: The log cannot be written to.
    """
    kind = next(name for name, known in _KINDS.items() if isinstance(record, known))
    line = json.dumps({"kind": kind, "schema": SCHEMA, **asdict(record)}, allow_nan=False, separators=(",", ":"))
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # A writer that was killed may have left half a line; this one must not be glued to it.
            end = file.seek(0, os.SEEK_END)
            torn = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"
            file.write(b"\n" * torn + line.encode() + b"\n")
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write to the log {path}: {error.strerror}; choose a place that can be") from error


def read_log(path: Path) -> Log:
    """Read a log.

    Raises:
        DataError: There is no such file, or no study can be read in it.
    """
    studies: dict[str, Study] = {}
    signed: dict[str, Signed] = {}
    repeated, quarantined = 0, []
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    record = _parsed(line)
                except RecordError as error:
                    quarantined.append(Quarantined(Path(path).name, f"line {number}", str(error)))
                    continue
                if isinstance(record, Signed):
                    signed.pop(record.study, None)
                    signed[record.study] = record
                elif record.study in studies:
                    repeated += 1
                else:
                    studies[record.study] = record
    except OSError as error:
        raise DataError(
            f"cannot read the log {path}: {error.strerror}; serving writes it where it is told to"
        ) from error
    if not studies:
        why = f"; {quarantined[0].record}: {quarantined[0].reason}" if quarantined else ""
        raise DataError(f"no study in the log {path}{why}")
    return Log(tuple(studies.values()), tuple(signed.values()), repeated, tuple(quarantined))


def _parsed(line: str) -> Study | Signed:
    """A record from its line; complaints name keys, and never repeat what stands under them."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        raise RecordError("no JSON; a line that was cut off, or text of another kind") from None
    if not isinstance(raw, dict) or raw.pop("schema", None) != SCHEMA:
        raise RecordError(f"no record of schema {SCHEMA}; write logs with `append`")
    kind = _KINDS.get(str(raw.pop("kind", "")))
    if kind is None:
        raise RecordError(f"unknown kind of record (known: {', '.join(_KINDS)})")
    known = {one.name for one in fields(kind)}
    for name in raw:
        if name not in known:
            raise RecordError(f"an unknown key{did_you_mean(name, known)}; there is no room for anything else")
    if isinstance(raw.get("embedding"), list):
        raw["embedding"] = tuple(raw["embedding"])
    try:
        return kind(**raw)
    except TypeError as error:
        raise RecordError(f"a key is missing ({str(error).rpartition(':')[2].strip()})") from None


def _check_types(record: Study | Signed) -> None:
    """Hold every field against its type, since a line of a log may hold anything."""
    for name, kind in get_type_hints(type(record)).items():
        if not _fits(getattr(record, name), kind):
            raise RecordError(f"{name} is of another kind than {str(kind).replace('typing.', '')}")


def _fits(value: object, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(value, each) for each in get_args(kind))
    inner = get_args(kind)
    if getattr(kind, "__origin__", None) is Literal:
        return value in inner
    if isinstance(value, Mapping):
        return len(inner) == 2 and all(_fits(key, inner[0]) and _fits(one, inner[1]) for key, one in value.items())
    if isinstance(value, tuple):
        return bool(inner) and all(_fits(one, inner[0]) for one in value)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    return not inner and isinstance(value, kind)


def _check_code(value: str, name: str) -> None:
    if not _CODE.fullmatch(value):
        raise RecordError(f"{name} is no code: up to 64 letters, digits, dots, dashes and underscores")


def _check_label(value: str, name: str) -> None:
    if not _LABEL.fullmatch(value):
        raise RecordError(f"{name} is no label: up to 40 characters in one line")


def _check_time(value: str) -> None:
    try:
        zone = datetime.fromisoformat(value).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise RecordError("time is no time of ISO 8601 with its zone, such as 2026-11-28T18:40:00+00:00")


def _check_findings(findings: Mapping[str, Said]) -> None:
    for name in findings:
        _check_label(name, "findings")


def _check_finite(values: list[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise RecordError("embedding or pixels hold what is no number")
