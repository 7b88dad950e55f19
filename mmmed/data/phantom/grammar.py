"""What is asked about a phantom film and what its report says: a small grammar with varied wording.

Every choice of words is a pure function of the seed, the film and the question, so that records are stable.
A report states each present finding in a sentence of its own and denies each absent one, nothing else.
"""

import hashlib
from collections.abc import Sequence
from random import Random
from typing import TypeVar

from mmmed.data.phantom.case import Case
from mmmed.data.phantom.findings import Finding, Kind
from mmmed.records import Turn

NAMES: dict[Kind, str] = {
    "effusion": "pleural effusion",
    "cardiomegaly": "cardiomegaly",
    "opacity": "opacity",
    "nodule": "nodule",
    "pneumothorax": "pneumothorax",
    "device": "support device",
}
"""How each finding is called in questions and reports; reports use these words and no synonyms."""

_UNCOUNTED: tuple[Kind, ...] = ("cardiomegaly",)

_SIZES = {"mild": "small", "moderate": "medium-sized", "severe": "large"}

_Choice = TypeVar("_Choice")


def choose(options: Sequence[_Choice], *key: str | int) -> _Choice:
    """Pick one option by a hash of the key: the same on every run and machine."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def _with_article(kind: Kind) -> str:
    name = NAMES[kind]
    if kind in _UNCOUNTED:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def ask_report(case: Case) -> str:
    """An instruction to describe the film."""
    return choose(
        (
            "Describe the findings of this radiograph.",
            "Write a short report of this chest radiograph.",
            "What does this chest X-ray show?",
            "Report the findings on this frontal chest film.",
        ),
        case.seed,
        case.index,
        "ask report",
    )


def ask_findings(case: Case) -> str:
    """A question for the names of all findings at once."""
    return choose(
        ("Which findings are present?", "List the findings on this film.", "Name what is abnormal."),
        case.seed,
        case.index,
        "ask findings",
    )


def list_findings(findings: Sequence[Finding]) -> str:
    """The names of the findings that are present, and nothing about the others."""
    names = [NAMES[finding.kind] for finding in findings if finding.present]
    return f"It shows {', '.join(names) or 'no abnormality'}."


def ask_checklist(case: Case) -> str:
    """An instruction to go through all findings, as in structured reporting."""
    return choose(
        ("Go through the checklist.", "Check this film for each finding.", "Fill in the checklist."),
        case.seed,
        case.index,
        "ask checklist",
    )


def checklist(case: Case, findings: Sequence[Finding]) -> Turn:
    """A form with a yes or no to fill in for each finding, in an order that changes from film to film."""
    ordered = Random(f"{case.seed}:{case.index}:checklist").sample(list(findings), len(findings))
    filled = tuple("yes" if finding.present else "no" for finding in ordered)
    lines = [f"{NAMES[finding.kind]}: {answer}" for finding, answer in zip(ordered, filled, strict=True)]
    return Turn("assistant", f"{', '.join(lines)}.", blanks=filled)


def ask_presence(case: Case, kind: Kind) -> str:
    """A yes/no question about one finding."""
    name, a_name = NAMES[kind], _with_article(kind)
    return choose(
        (
            f"Is there {a_name}?",
            f"Does this radiograph show {a_name}?",
            f"Is {a_name} present on this film?",
            f"Can you see {a_name} here?",
            f"Does the patient have {a_name}?",
            f"Is there evidence of {name}?" if kind in _UNCOUNTED else f"Is there any {name}?",
        ),
        case.seed,
        case.index,
        "ask presence",
        kind,
    )


def ask_side(case: Case, kind: Kind) -> str:
    """A question about the patient's side a present finding is on."""
    name = NAMES[kind]
    return choose(
        (
            f"On which side is the {name}?",
            f"Which side of the patient shows the {name}?",
            f"Where is the {name}, by the patient's side?",
        ),
        case.seed,
        case.index,
        "ask side",
        kind,
    )


def ask_severity(case: Case, kind: Kind) -> str:
    """A question about the grade of a present finding."""
    name = NAMES[kind]
    return choose(
        (
            f"How severe is the {name}?",
            f"Grade the {name}.",
            f"What is the degree of the {name}?",
        ),
        case.seed,
        case.index,
        "ask severity",
        kind,
    )


def _effusion(finding: Finding) -> tuple[str, ...]:
    if finding.side == "both":
        return (
            f"There are {finding.severity} bilateral pleural effusions.",
            f"{finding.severity} pleural effusion on both sides.",
            f"Both costophrenic angles are blunted by {finding.severity} pleural effusion.",
        )
    return (
        f"There is a {finding.severity} {finding.side} pleural effusion.",
        f"{finding.severity} pleural effusion on the {finding.side}.",
        f"The {finding.side} costophrenic angle is blunted by a {finding.severity} pleural effusion.",
    )


def _cardiomegaly(finding: Finding) -> tuple[str, ...]:
    return (
        f"There is {finding.severity} cardiomegaly.",
        f"The heart is enlarged, in keeping with {finding.severity} cardiomegaly.",
        f"{finding.severity} cardiomegaly with a widened cardiac silhouette.",
    )


def _opacity(finding: Finding) -> tuple[str, ...]:
    if finding.side == "both":
        return (
            f"There is {finding.severity} opacity in both {finding.zone} zones.",
            f"{finding.severity} bilateral opacity in the {finding.zone} zones.",
        )
    return (
        f"There is {finding.severity} opacity in the {finding.side} {finding.zone} zone.",
        f"{finding.severity} patchy opacity of the {finding.side} {finding.zone} zone.",
    )


def _nodule(finding: Finding) -> tuple[str, ...]:
    size = _SIZES[finding.severity or "mild"]
    return (
        f"There is a {size} nodule in the {finding.side} {finding.zone} zone.",
        f"{size} round nodule, {finding.side} {finding.zone} zone.",
        f"A {size} nodule projects over the {finding.side} {finding.zone} zone.",
    )


def _pneumothorax(finding: Finding) -> tuple[str, ...]:
    return (
        f"There is a {finding.severity} {finding.side} pneumothorax.",
        f"{finding.severity} pneumothorax on the {finding.side} with a visible pleural line.",
        f"A {finding.side} pleural line marks a {finding.severity} pneumothorax.",
    )


def _device(finding: Finding) -> tuple[str, ...]:
    if finding.side is None:
        return (
            f"Support device: {finding.device} with its tip above the carina.",
            f"There is a support device, an {finding.device} in the midline.",
        )
    return (
        f"Support device: {finding.device} from the {finding.side}.",
        f"There is a support device, a {finding.side} {finding.device}.",
    )


_PRESENT = {
    "effusion": _effusion,
    "cardiomegaly": _cardiomegaly,
    "opacity": _opacity,
    "nodule": _nodule,
    "pneumothorax": _pneumothorax,
    "device": _device,
}


def _listed(names: Sequence[str], conjunction: str) -> str:
    """Join names as a sentence does: ``a``, ``a or b``, ``a, b or c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {conjunction} {names[-1]}"


def _denials(case: Case, absent: Sequence[Finding]) -> list[str]:
    """One or two sentences that deny the absent findings."""
    names = [NAMES[finding.kind] for finding in absent]
    cut = len(names) // 2 if len(names) > 3 else len(names)
    sentences = []
    for group in filter(None, (names[:cut], names[cut:])):
        listed = _listed(group, "or")
        options = (f"No {listed}.", f"There is no {listed}.", f"No evidence of {listed}.", f"No {listed} is seen.")
        sentences.append(choose(options, case.seed, case.index, "deny", listed))
    return sentences


def report(case: Case, findings: Sequence[Finding]) -> str:
    """A short report: an opening that sums up, a sentence per present finding, and the absent ones denied.

    Args:
        case: The film; it settles the wording.
        findings: What to report, as recorded.
    """
    present = [finding for finding in findings if finding.present]
    absent = [finding for finding in findings if not finding.present]
    if present:
        count = ("One finding", "Two findings", "Three findings", "Four findings", "Five findings", "Six findings")
        openings = (
            f"Abnormal {case.view} chest radiograph.",
            f"{count[len(present) - 1]} on this {case.view} chest radiograph.",
            f"{case.view} chest radiograph, abnormal.",
        )
    else:
        openings = (
            f"Normal {case.view} chest radiograph with clear lungs.",
            f"Unremarkable {case.view} chest radiograph, heart and lungs are normal.",
            f"{case.view} chest radiograph without abnormality.",
        )
    sentences = [choose(openings, case.seed, case.index, "opening")]
    for finding in present:
        sentence = choose(_PRESENT[finding.kind](finding), case.seed, case.index, "state", finding.kind)
        sentences.append(sentence[0].upper() + sentence[1:])
    denials = _denials(case, absent)
    denials_at = choose((1, len(sentences), len(sentences)), case.seed, case.index, "order")
    return " ".join([*sentences[:denials_at], *denials, *sentences[denials_at:]])
