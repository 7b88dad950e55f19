"""How much of what identifies a person is found, how much else is taken with it, and how fast.

    python benchmarks/deidentification.py SHARED_DATA/10_deid [--mode rules|model] [--output FILE] [--misses FILE]

Every set is cut in two by a hash of the record: rules were written while looking at the one half, the other was only
counted. A labelled identifier is found if every word of it is covered, titles ("Mr."), degrees ("MD") and labels
("Patient ID:") aside; a finding is right if it touches anything that is labelled, of whatever type.
Dates without a day or a
month (years, "last week") are no identifiers under Safe Harbor and are not asked for, nor are states, countries,
professions and ages under 90.
`--output` keeps the figures and says which labels were missed, by record and place; `--misses` writes what was missed
and what was taken wrongly to a file of yours: it quotes the notes.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmmed.data.deidentify.entities import Finding
from mmmed.data.deidentify.privacy import Mode
from mmmed.data.deidentify.recognisers import engine
from mmmed.data.deidentify.text import find

SETS = {
    "ASQ-PHI": "asq_phi_queries.jsonl",
    "Presidio v2": "presidio_synth_v2.jsonl",
    "clinical notes": "synthetic_clinical_notes.jsonl",
    "MEDDOCAN (es)": "meddocan_es_dev.jsonl",
}
ASKED = ("name", "date", "phone", "email", "identifier")
"""Types that must be found; places are counted too, but nobody asks a figure of them."""

TYPES = {
    "name": "NAME PERSON NOMBRE_SUJETO_ASISTENCIA NOMBRE_PERSONAL_SANITARIO",
    "date": "DATE DATE_TIME FECHAS",
    "phone": "PHONE PHONE_NUMBER FAX_NUMBER NUMERO_TELEFONO NUMERO_FAX",
    "email": "EMAIL EMAIL_ADDRESS CORREO_ELECTRONICO",
    "identifier": "MRN MEDICAL_RECORD_NUMBER HEALTH_PLAN_ID HEALTH_PLAN_BENEFICIARY_NUMBER SSN SOCIAL_SECURITY_NUMBER "
    "US_SSN"
    " UNIQUE_IDENTIFIER ACCOUNT_NUMBER CREDIT_CARD IBAN_CODE US_DRIVER_LICENSE IP_ADDRESS DOMAIN_NAME "
    "ID_SUJETO_ASISTENCIA"
    " ID_TITULACION_PERSONAL_SANITARIO ID_ASEGURAMIENTO ID_CONTACTO_ASISTENCIAL ID_EMPLEO_PERSONAL_SANITARIO",
    "place": "GEOGRAPHIC_LOCATION HOSPITAL STREET_ADDRESS CITY ZIP ZIP_CODE GPE TERRITORIO CALLE INSTITUCION "
    "CENTRO_SALUD",
}
TYPE_OF = {label: kind for kind, labels in TYPES.items() for label in labels.split()}
KINDS_OF = {
    "name": ("name",),
    "date": ("date",),
    "phone": ("phone", "fax"),
    "email": ("email",),
    "place": ("place", "address", "institution"),
}
TYPE_OF_KIND = {kind: group for group, kinds in KINDS_OF.items() for kind in kinds}
"""What is found, in the types of the table; every other kind is a number that identifies."""

# Words inside labelled spans that identify nobody.
_ASIDE = re.compile(
    r"(?i:mr|mrs|ms|miss|dr|dra|prof|md|dds|dvm|phd|don|doña|d|patient|id|case|site|number|no|de|del|of|the|and|nan|of"
    r"|años|año|last|next|this|early|late)"
)
_MONTH = re.compile(r"(?i:\b(?:jan|ene|feb|mar|apr|abr|may|jun|jul|aug|ago|sep|set|oct|nov|dec|dic)[a-z]{0,7}\b)")


@dataclass
class Tally:
    """Counts of one set and half."""

    found: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    misses: list[dict[str, Any]] = field(default_factory=list)

    def recall(self, kind: str) -> float:
        """Share of the asked that was found."""
        return self.found[kind] / self.asked[kind] if self.asked[kind] else float("nan")

    def precision(self, type_: str | None = None) -> float:
        """Share of the findings, or of those of one type, that touch a label."""
        kinds = [kind for kind in self.taken if type_ in (None, TYPE_OF_KIND.get(kind, "identifier"))]
        taken = sum(self.taken[kind] for kind in kinds)
        return sum(self.right[kind] for kind in kinds) / taken if taken else float("nan")

    def add(self, other: "Tally") -> None:
        """Count another set too."""
        for mine, others in zip(self.counts, other.counts, strict=True):
            mine.update(others)

    @property
    def counts(self) -> tuple[Counter[str], ...]:
        """All counters, in one order."""
        return self.found, self.asked, self.right, self.taken


class Pace(NamedTuple):
    """Clinical notes a second on one thread by the clocks of processor and wall, and their length."""

    notes: float
    by_the_wall: float
    characters: float


def half_of(identifier: str) -> str:
    """Which half a record belongs to."""
    return "seen" if hashlib.sha256(identifier.encode()).digest()[0] % 2 else "held out"


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Read one set."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def score(folder: Path, mode: Mode) -> dict[tuple[str, str], Tally]:
    """Count by set and half."""
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for name, file in SETS.items():
        for record in records(folder / file):
            count(tallies[name, half_of(record["id"])], record, find(record["text"], mode=mode))
    return tallies


def count(tally: Tally, record: dict[str, Any], findings: list[Finding]) -> None:
    """Add one record to the counts."""
    text, spans = record["text"], record["spans"]
    covered = bytearray(len(text))
    for one in findings:
        covered[one.start : one.end] = b"\1" * (one.end - one.start)
        touches = any(one.start < span["end"] and span["start"] < one.end for span in spans)
        tally.taken[one.kind] += 1
        tally.right[one.kind] += touches
        if not touches:
            tally.misses.append(_line(record, one.start, one.end, f"wrongly taken: {one.kind}: {one.rule}"))
    for span in spans:
        kind = TYPE_OF.get(span["label"])
        if kind is None or (kind == "date" and not has_day_or_month(span["text"])):
            continue
        if (kind == "identifier" and not any(map(str.isdigit, span["text"]))) or (
            kind == "email" and "@" not in span["text"]
        ):
            continue  # misplaced labels: "lactante" as a number, the word "email" as an address
        words = [word for word in re.finditer(r"\w+", span["text"]) if not _ASIDE.fullmatch(word[0])]
        whole = all(covered[span["start"] + place] for word in words for place in range(*word.span()))
        tally.asked[kind] += 1
        tally.found[kind] += whole
        if not whole:
            tally.misses.append(_line(record, span["start"], span["end"], f"missed: {kind}: {span['label']}"))


def has_day_or_month(text: str) -> bool:
    """Say whether a labelled date holds more than years, days of the week and words such as "last week"."""
    numbers = re.findall(r"\d+", text)
    return bool(_MONTH.search(text)) or any(not re.fullmatch(r"(?:18|19|20)\d\d", number) for number in numbers)


def table(tallies: dict[tuple[str, str], Tally]) -> str:
    """The figures as Markdown: recall / precision (how many were asked)."""
    kinds = (*ASKED, "place")
    lines = ["| set | half | " + " | ".join(kinds) + " | precision |", "| --- " * (len(kinds) + 3) + "|"]
    for (name, half), tally in [*sorted(tallies.items()), *totals(tallies).items()]:
        cells = [
            f"{tally.recall(kind):.3f} / {tally.precision(kind):.2f} ({tally.asked[kind]})"
            if tally.asked[kind]
            else "-"
            for kind in kinds
        ]
        lines.append(f"| {name} | {half} | {' | '.join(cells)} | {tally.precision():.3f} |")
    return "\n".join(lines)


def totals(tallies: dict[tuple[str, str], Tally]) -> dict[tuple[str, str], Tally]:
    """All sets together, by half."""
    summed: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for (_, half), tally in sorted(tallies.items()):
        summed["all", half].add(tally)
    return summed


def results(tallies: dict[tuple[str, str], Tally], *, mode: str, speed: Pace) -> dict[str, Any]:
    """The figures as JSON, with every missed label by record and place, and without its text."""
    return {
        "mode": mode,
        "notes_per_second_of_one_processor": round(speed.notes, 1),
        "notes_per_second_by_the_wall": round(speed.by_the_wall, 1),
        "characters_per_note": round(speed.characters),
        "figures": [
            {
                "set": name,
                "half": half,
                "type": kind,
                "asked": tally.asked[kind],
                "recall": round(tally.recall(kind), 4),
                "precision": round(tally.precision(kind), 4),
            }
            for (name, half), tally in [*sorted(tallies.items()), *totals(tallies).items()]
            for kind in (*ASKED, "place")
            if tally.asked[kind]
        ],
        "missed": [
            f"{name}: {miss['id']}, {miss['start']} to {miss['end']}: {miss['what'].removeprefix('missed: ')}"
            for (name, _), tally in sorted(tallies.items())
            for miss in tally.misses
            if miss["what"].startswith("missed") and not miss["what"].startswith("missed: place")
        ],
    }


def pace(folder: Path, mode: Mode, *, seconds: float = 10.0) -> Pace:
    """Find in the clinical notes for some seconds of the processor."""
    texts = [record["text"] for record in records(folder / SETS["clinical notes"])]
    find(texts[0], mode=mode)
    done, length, began, began_by_the_wall = 0, 0, time.process_time(), time.perf_counter()
    while time.process_time() - began < seconds:
        find(texts[done % len(texts)], mode=mode)
        length += len(texts[done % len(texts)])
        done += 1
    spent, passed = time.process_time() - began, time.perf_counter() - began_by_the_wall
    return Pace(done / spent, done / passed, length / done)


def main() -> None:
    """Print the table and the pace."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mode", choices=("rules", "model"), default="rules")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--misses", type=Path)
    asked = parser.parse_args()
    engine(asked.mode)
    tallies = score(asked.folder, asked.mode)
    print(table(tallies))
    speed = pace(asked.folder, asked.mode)
    print(
        f"\n{asked.mode}: {speed.notes:.0f} notes of {speed.characters:.0f} characters a second of one processor, "
        f"{speed.by_the_wall:.0f} by the wall"
    )
    if asked.output:
        figures = results(tallies, mode=asked.mode, speed=speed)
        asked.output.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if asked.misses:
        lines = [
            json.dumps({"set": name, "half": half, **miss}, ensure_ascii=False)
            for (name, half), tally in sorted(tallies.items())
            for miss in tally.misses
        ]
        asked.misses.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        print(f"{len(lines)} lines in {asked.misses}", file=sys.stderr)


def _line(record: dict[str, Any], start: int, end: int, what: str) -> dict[str, Any]:
    text = record["text"]
    around = text[max(0, start - 50) : end + 30]
    return {"id": record["id"], "start": start, "end": end, "what": what, "text": text[start:end], "around": around}


if __name__ == "__main__":
    main()
