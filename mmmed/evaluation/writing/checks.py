"""What a document that a model wrote is held against: the facts of its case, its form, and its reader.

Each check finds one kind of fault and leaves the others to the others, so that a count of faults says what went wrong.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mmmed.data.deidentify.entities import Kind as Identifier
from mmmed.data.deidentify.text import find
from mmmed.data.writing_case import WritingCase
from mmmed.evaluation.writing.exam import key_faults, option_faults, parse_exam
from mmmed.evaluation.writing.lexicon import lexicon, mentions, says_any, statuses
from mmmed.evaluation.writing.quantities import numbers, said_doses, wrong_doses
from mmmed.evaluation.writing.readability import readability
from mmmed.processing.findings.labeller import Status, sentences


class Verdict(NamedTuple):
    """What one check says of one document: how much it looked at, and each fault in a few words."""

    looked_at: int
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether there is no fault."""
        return not self.faults


Check = Callable[[str, WritingCase], Verdict]

_ALLERGY = re.compile(r"allerg|anaphyla|hypersensitiv", re.IGNORECASE)
_NO_ALLERGY = re.compile(r"\b(?:no|not|nil|denies|without|none)\b", re.IGNORECASE)
_NEW_SUBJECT = re.compile(r",?\s+(?:and|but|while|so)\s+(?=(?:he|she|they|you|we|it|the patient)\b)", re.IGNORECASE)
_IDENTIFIERS: tuple[Identifier, ...] = (
    "name",
    "date",
    "phone",
    "fax",
    "email",
    "ssn",
    "record_number",
    "accession",
    "health_plan",
    "account",
    "licence",
    "identifier",
    "address",
)
_OPEN = re.compile(r"\[([^\]\n]{1,60})\]")
_OTHER_SIDE = {"left": "right", "right": "left"}
_NEAR = r"(?:[\s,-]+[\w'\u2019-]+){0,2}[\s-]+"


def check(text: str, case: WritingCase) -> dict[str, Verdict]:
    """Hold a document against its case, by every check that the case has something for."""
    said = {name: one(text, case) for name, one in CHECKS.items()}
    return {name: verdict for name, verdict in said.items() if verdict.looked_at}


def elements(text: str, case: WritingCase) -> Verdict:
    """What has to be said is said."""
    missing = [name for name, wordings in case.must.items() if not says_any(text, wordings)]
    return Verdict(len(case.must), tuple(f"not said: {name}" for name in missing))


def doses(text: str, case: WritingCase) -> Verdict:
    """Each dose is given, and no drug of the case another."""
    said = sentences(text)
    wrong = [f"{one.drug}: {one.said}" for sentence in said for one in wrong_doses(sentence, case.doses)]
    missing = [
        f"{drug}: no dose of {', '.join(given)}"
        for drug, given in case.doses.items()
        if not wrong and not said_doses(said, drug, given)
    ]
    return Verdict(len(case.doses), tuple(wrong + missing))


def figures(text: str, case: WritingCase) -> Verdict:
    """Every other number is one of the case's."""
    known = {number for number, _ in numbers(case.known)}
    written = list(numbers(_OPEN.sub("", text)))
    return Verdict(
        max(1, len(written)), tuple(f"not in the case: {near}" for number, near in written if number not in known)
    )


def sides(text: str, case: WritingCase) -> Verdict:
    """No part of the body changes its side."""
    faults = []
    for part, side in case.sides.items():
        for wrong in [_OTHER_SIDE[side]] if side in _OTHER_SIDE else []:
            name = re.escape(part)
            pattern = rf"\b{wrong}{_NEAR}{name}\b|\b{wrong}[\s-]{name}\b|\b{name}\s+(?:of|on)\s+the\s+{wrong}\b"
            faults += [f"{part} is {side}: {match[0]}" for match in re.finditer(pattern, text, re.IGNORECASE)]
    return Verdict(len(case.sides), tuple(faults))


def negations(text: str, case: WritingCase) -> Verdict:
    """What is so is not denied, and what is not so is not stated."""
    faults = []
    for name, places in statuses(text, [*case.stated, *case.denied]).items():
        turned = Status.DENIED if name in case.stated else Status.STATED
        word = "denied" if turned is Status.DENIED else "stated"
        faults += [f"{name} is {word}: {sentence}" for status, sentence in places if status is turned]
    return Verdict(len(case.stated) + len(case.denied), tuple(faults))


def allergies(text: str, case: WritingCase) -> Verdict:
    """The patient is said to be allergic to what the case says, and to nothing else."""
    listed = lexicon()
    known = " ".join(case.allergies)
    faults = []
    for clause in filter(_ALLERGY.search, _clauses(text)):
        named = [name for name in (*listed.drugs, *listed.allergens) if mentions(clause, name)]
        if _NO_ALLERGY.search(clause):
            faults += [f"an allergy is denied: {clause}"] if case.allergies and not named else []
        else:
            faults += [f"no allergy to {name}: {clause}" for name in named if not mentions(known, name)]
    return Verdict(1, tuple(faults))


def inventions(text: str, case: WritingCase) -> Verdict:
    """No drug and no condition is stated of the patient that the case does not name."""
    told = "\n".join([case.known, *(word for wordings in case.must.values() for word in wordings), *case.doses])
    rest = "\n".join(one for one in _clauses(text) if not _ALLERGY.search(one))
    listed = lexicon()
    unknown = [name for name in (*listed.drugs, *listed.conditions) if not mentions(told, name)]
    faults = [
        f"not in the case: {name}: {sentence}"
        for name, places in statuses(rest, unknown).items()
        for status, sentence in places
        if status is Status.STATED
    ]
    return Verdict(1, tuple(faults))


def sections(text: str, case: WritingCase) -> Verdict:
    """The headings stand there, in their order."""
    lines = [re.sub(r"^[#*\s\d.]+|[*:\s]+$", "", line).lower() for line in text.splitlines()]
    places = [lines.index(name.lower()) if name.lower() in lines else None for name in case.sections]
    missing = [f"no heading {name!r}" for name, place in zip(case.sections, places, strict=True) if place is None]
    found = [place for place in places if place is not None]
    disorder = [] if found == sorted(found) else ["headings in another order"]
    return Verdict(len(case.sections), tuple(missing + disorder))


def placeholders(text: str, case: WritingCase) -> Verdict:
    """What the writer cannot know is left open in square brackets, and not made up."""
    left_open = " ".join(match[1].lower() for match in _OPEN.finditer(text))
    faults = [f"not left open: {name}" for name in case.open if name.lower() not in left_open]
    plain = _OPEN.sub(lambda match: " " * len(match[0]), text)
    for one in find(plain):
        said = plain[one.start : one.end].strip()
        if one.kind in _IDENTIFIERS and said.lower() not in case.known.lower():
            faults.append(f"made up ({one.kind}): {said}")
    return Verdict(1, tuple(faults))


def reading(text: str, case: WritingCase) -> Verdict:
    """The reader's years of school are enough, by the grade of Flesch and Kincaid."""
    if case.grade is None:
        return Verdict(0, ())
    grades = readability(text)
    if grades is None:
        return Verdict(1, ("nothing to read",))
    too_high = grades.flesch_kincaid > case.grade
    return Verdict(1, (f"grade {grades.flesch_kincaid:.1f}, not {case.grade:g}",) if too_high else ())


def length(text: str, case: WritingCase) -> Verdict:
    """As many words as were asked for, within the bounds."""
    count, (fewest, most) = len(text.split()), case.words
    return Verdict(1, () if fewest <= count <= most else (f"{count} words, not {fewest} to {most}",))


def options(text: str, case: WritingCase) -> Verdict:
    """An exam question has a stem, options that are plausible and differ, and one answer."""
    return Verdict(1 if case.key else 0, tuple(option_faults(text, case)) if case.key else ())


def key(text: str, case: WritingCase) -> Verdict:
    """The answer of an exam question is the right one, and no other option is."""
    exam = parse_exam(text) if case.key else None
    return Verdict(1 if exam else 0, tuple(key_faults(exam, case)) if exam else ())


CHECKS: Mapping[str, Check] = {
    "elements": elements,
    "doses": doses,
    "figures": figures,
    "sides": sides,
    "negations": negations,
    "allergies": allergies,
    "inventions": inventions,
    "sections": sections,
    "placeholders": placeholders,
    "reading": reading,
    "length": length,
    "options": options,
    "key": key,
}
"""By name, in the order of a check-list."""


def _clauses(text: str) -> list[str]:
    """Sentences; one about an allergy is cut where "and he" or the like begins to say something else of the patient."""
    return [
        clause
        for sentence in sentences(text)
        for clause in (_NEW_SUBJECT.split(sentence) if _ALLERGY.search(sentence) else [sentence])
    ]
