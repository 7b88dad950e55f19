"""Orders to write letters, handouts, exam questions, instructions and notes, from the cases of this project."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmmed.data.question import about_text
from mmmed.data.writing_case import KINDS, Kind, WritingCase, read_cases
from mmmed.errors import ConfigError
from mmmed.records import Example, Quarantined, Split

READERS = {
    "insurer": "a reviewer of the health plan",
    "patient": "the patient, who has no medical training",
    "student": "a medical student",
    "clinician": "another clinician",
}
_EVERY = 6


class ClinicalWriting:
    """Reads cases (data/clinical_writing/*.yaml), each an order to write with a document that a careful writer made.

    Without folds every case is tested on. With folds, those of the chosen one are, and the others are learned from,
    but for every sixth, which validates; each fold has its share of every kind of document.

    Args:
        root: Folder of the cases.
        kinds: Of documents; all unless named.
        folds: How many parts the cases are cut into, from 2; None cuts nothing.
        fold: Which part is tested on, from 0.

    Raises:
        ConfigError: There are too few folds, or no such fold.
    """

    name = "clinical_writing"

    def __init__(self, root: str, *, kinds: Sequence[Kind] = KINDS, folds: int | None = None, fold: int = 0) -> None:
        if folds is not None and folds < 2:
            raise ConfigError(f"clinical_writing: folds is {folds}; expected 2 or more, or none")
        if not 0 <= fold < (folds or 1):
            raise ConfigError(f"clinical_writing: fold is {fold}; expected 0 to {(folds or 1) - 1}")
        self.root = Path(root)
        self.kinds = tuple(kinds)
        self.folds = folds
        self.fold = fold

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the orders in the order of the files.

        Raises:
            DataError: There is no case, or one is malformed.
        """
        for case, split in self._placed():
            yield order_of(case, split=split)

    def _placed(self) -> Iterator[tuple[WritingCase, Split]]:
        seen = dict.fromkeys(KINDS, 0)
        learned = 0
        for case in read_cases(self.root):
            number = seen[case.kind]
            seen[case.kind] += 1
            if case.kind not in self.kinds:
                continue
            if self.folds is None or number % self.folds == self.fold:
                yield case, "test"
                continue
            learned += 1
            yield case, "train" if learned % _EVERY else "validation"


def order_of(case: WritingCase, *, split: Split = "test") -> Example:
    """A case as it is put to a writer: the order, all that is known, and the form that is wanted."""
    return Example(
        id=case.id,
        patient=case.id,
        turns=about_text(order_text(case), case.reference),
        topic=case.kind,
        split=split,
        source=ClinicalWriting.name,
        attributes={"specialty": case.specialty, "audience": case.audience},
    )


def order_text(case: WritingCase) -> str:
    """The words of an order. What is not to be said is for the writer to see in the notes."""
    fewest, most = case.words
    lines = [case.order, "", "Notes:", case.given, "", f"Reader: {READERS[case.audience]}."]
    if case.grade is not None:
        lines.append(f"Write for a reader with {case.grade:g} years of school.")
    if case.sections:
        lines.append(f"Headings, each on a line of its own, in this order: {'; '.join(case.sections)}.")
    if case.open:
        lines.append(f"Leave open in square brackets: {', '.join(f'[{one}]' for one in case.open)}.")
    if case.key:
        lines.append(
            "Give a stem, four options A. to D. on lines of their own, and a last line 'Answer:' with a letter."
        )
    lines.append(f"Length: {fewest} to {most} words. Say nothing of this patient that the notes do not say.")
    return "\n".join(lines)
