"""A case for clinical writing: what the writer is told, and what can be held against what was written.

Cases stand in YAML files, one list a file; see data/clinical_writing.md for the meaning of each key.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from mmmed.errors import DataError, did_you_mean

Kind = Literal["prior_authorisation", "handout", "exam_question", "discharge", "visit_note"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingCase:
    """One order to write, with its facts.

    Args:
        id: Unique among all cases.
        kind: Of document.
        specialty: Of medicine.
        audience: Who reads it: "insurer", "patient", "student" or "clinician".
        order: What is to be written.
        given: All that is known; what is written may say nothing else of this patient.
        sections: Headings that the document has, in this order.
        open: What the writer cannot know and leaves open in square brackets, such as "patient name".
        must: What has to be said, by name, each in any of several wordings; without doses, which have their own check.
        doses: Doses by drug; each has to be given, and of these drugs no other.
        sides: The side of each part of the body.
        stated: What is so and must not be denied.
        denied: What is not so and must not be stated.
        allergies: Of the patient.
        may: Drugs and conditions that may be named though the case does not.
        grade: Highest school grade of reading, None for readers who studied.
        words: Fewest and most words.
        key: Of an exam question, the right option in any of several wordings.
        distractors: Of an exam question, wrong options that are plausible.
        reference: A document that a careful writer would make of the case.
    """

    id: str
    kind: Kind
    specialty: str
    audience: str
    order: str
    given: str
    reference: str
    words: tuple[int, int]
    sections: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    must: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    doses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sides: Mapping[str, str] = field(default_factory=dict)
    stated: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    allergies: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    grade: float | None = None
    key: tuple[str, ...] = ()
    distractors: tuple[str, ...] = ()

    @property
    def known(self) -> str:
        """All words that the case itself uses."""
        listed = [*self.sections, *self.open, *self.allergies, *self.may, *self.key, *self.distractors]
        return "\n".join([self.order, self.given, *(f"[{one}]" for one in self.open), *listed])


# A line as long as this goes on in the next one; headings, items and last lines are shorter.
_NARROW = 80
_SIDES = ("left", "right", "both")
_REQUIRED = tuple(each.name for each in fields(WritingCase) if each.default is each.default_factory is MISSING)
_NAMES = tuple(each.name for each in fields(WritingCase))


def read_cases(root: Path) -> Iterator[WritingCase]:
    """Yield the cases of all YAML files in a folder, in the order of their names.

    Raises:
        DataError: There is no case, or one is malformed; the message names file, case and key.
    """
    seen: set[str] = set()
    for path in sorted(root.glob("*.yaml")):
        try:
            entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise DataError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
        if not isinstance(entries, list):
            raise DataError(f"{path} holds {type(entries).__name__}; expected a list of cases")
        for number, entry in enumerate(entries, 1):
            case = _case(entry, place=f"{path}, case {number}")
            if case.id in seen:
                raise DataError(f"{path}: there are two cases {case.id!r}; give each its own id")
            seen.add(case.id)
            yield case
    if not seen:
        raise DataError(f"no cases in {root}; expected YAML files, each a list of cases")


def _case(entry: Any, *, place: str) -> WritingCase:
    if not isinstance(entry, dict):
        raise DataError(f"{place} is {type(entry).__name__}; expected keys and values")
    place = f"{place} ({entry.get('id')})"
    if missing := [name for name in _REQUIRED if name not in entry]:
        raise DataError(f"{place} lacks {', '.join(missing)}")
    if unknown := [name for name in entry if name not in _NAMES]:
        raise DataError(f"{place} has an unknown key {unknown[0]!r}{did_you_mean(unknown[0], _NAMES)}")
    if entry["kind"] not in KINDS:
        raise DataError(f"{place} has kind {entry['kind']!r}{did_you_mean(entry['kind'], KINDS)}")
    if sides := [side for side in entry.get("sides", {}).values() if side not in _SIDES]:
        raise DataError(f"{place} has side {sides[0]!r}; expected one of {', '.join(_SIDES)}")
    read = {name: _read(value) for name, value in entry.items()}
    for name in ("must", "doses"):
        read[name] = {key: _several(value) for key, value in entry.get(name, {}).items()}
    return WritingCase(**read)


def _read(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else _unwrapped(value) if isinstance(value, str) else value


def _unwrapped(text: str) -> str:
    """A text without the line breaks that only keep the file narrow."""
    return re.sub(rf"(?<=[^\n]{{{_NARROW}}})\n(?=[^\n])", " ", text.strip())


def _several(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)
