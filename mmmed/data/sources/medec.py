"""MEDEC: clinical texts with at most one error to be found and corrected (Ben Abacha et al. 2024, arXiv 2412.19260)."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from mmmed.data.entries import plain
from mmmed.data.official import HeldOut, OfficialFile
from mmmed.data.question import YES_NO, about_text, yes_no
from mmmed.data.tabular import Row, no_layout, present, quarantine, read_csv
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined

Question = Literal["flag", "sentence", "correction"]

_COLUMNS = (
    "Text ID",
    "Text",
    "Sentences",
    "Error Flag",
    "Error Type",
    "Error Sentence ID",
    "Error Sentence",
    "Corrected Sentence",
)
_ABSENT = ("", "NA")


_FILES = (
    OfficialFile("MEDEC-*TestSet*GroundTruth*.csv", "medec_ms_test.csv", "test", "test"),
    OfficialFile("MEDEC-*ValidationSet*.csv", "medec_ms_valid.csv", "validation", "validation"),
    OfficialFile("MEDEC-*TrainingSet*.csv", "medec_ms_train.csv", "train", "train"),
)


class Medec:
    """Reads the public MS collection of the release, or a sample of it (medec_ms_*.csv).

    Most vignettes stand twice, once with an error and once without; both carry the identifier of the first as
    patient, so that neither splits nor intervals take them for two. The official splits are kept.

    Args:
        root: The repository, its folder MEDEC-MS, or the folder of a sample.
        questions: What is asked: whether there is an error ("flag"), and of texts that have one, which sentence it
            is in ("sentence") and how that sentence should read ("correction").
    """

    name = "medec"

    def __init__(self, root: str, *, questions: Sequence[Question] = ("flag", "sentence", "correction")) -> None:
        self.root = Path(root)
        self.questions = tuple(questions)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the texts of test, validation and training set, in the order of the files.

        Raises:
            DataError: There is no such file, or one lacks a column.
        """
        held_out = HeldOut("vignette")
        for path, file in self._files():
            rows = read_csv(path, columns=_COLUMNS)
            yield from quarantine(self.name, rows, partial(self._examples, file=file, held_out=held_out))

    def _files(self) -> list[tuple[Path, OfficialFile]]:
        for folder in (self.root / "MEDEC-MS", self.root):
            for pattern in ("release", "sample"):
                found = [(path, file) for file in _FILES for path in sorted(folder.glob(getattr(file, pattern)))]
                if found:
                    return found
        raise no_layout(self.name, root=self.root, expected="MEDEC-MS-*Set*.csv or medec_ms_valid.csv")

    def _examples(self, row: Row, *, file: OfficialFile, held_out: HeldOut) -> Iterator[Example]:
        identifier, text = row.text("Text ID"), row.text("Text")
        flag = row.one_of("Error Flag", ("0", "1"))
        sentences = numbered_sentences(row.text("Sentences"))
        unit = held_out.admit(plain(sentences[0]), split=file.split, name=identifier)
        numbered = tuple(f"{number} {sentence}" for number, sentence in enumerate(sentences))
        asked: dict[str, tuple[str, str, tuple[str, ...]]] = {
            "flag": (f"{text}\n\nDoes this clinical text hold an error?", yes_no(flag == "1"), YES_NO)
        }
        if flag == "1":
            place = _place_of_error(row, sentences)
            listed = "\n".join(numbered)
            asked["sentence"] = (f"{listed}\n\nWhich of these sentences holds an error?", numbered[place], numbered)
            order = f"{listed}\n\nThis text holds an error in sentence {place}. Write that sentence without the error."
            asked["correction"] = (order, _filled(row, "Corrected Sentence"), ())
        kind = row.maybe("Error Type")
        for topic in self.questions:
            if topic not in asked:
                continue
            question, answer, options = asked[topic]
            yield Example(
                id=f"{identifier}:{topic}",
                patient=unit,
                turns=about_text(question, answer),
                options=options,
                topic=topic,
                split=file.split,
                source=self.name,
                attributes=present(
                    {"error_type": "" if kind in _ABSENT else kind, "official_split": file.official},
                ),
            )


def numbered_sentences(text: str) -> tuple[str, ...]:
    """The sentences of a list with one number a line, from 0; a sentence may go on over lines that have none.

    Raises:
        RecordError: The list does not begin with 0.
    """
    sentences: list[str] = []
    for line in text.splitlines():
        number, _, rest = line.partition(" ")
        # A table of laboratory values begins lines with numbers too; only the next number begins a sentence.
        if number == str(len(sentences)):
            sentences.append(rest)
        elif sentences:
            sentences[-1] += f" {line}"
        elif line.strip():
            raise RecordError(f"'Sentences' begins with {line[:40]!r}; expected sentence 0")
    if not sentences:
        raise RecordError("'Sentences' is empty")
    return tuple(" ".join(sentence.split()) for sentence in sentences)


def _place_of_error(row: Row, sentences: Sequence[str]) -> int:
    number = row.text("Error Sentence ID").removesuffix(".0")
    place = int(number) if number.isascii() and number.isdigit() and len(number) <= 4 else len(sentences)
    if place >= len(sentences):
        raise RecordError(f"'Error Sentence ID' is {number!r}; expected 0 to {len(sentences) - 1}")
    if plain(sentences[place]) != plain(_filled(row, "Error Sentence")):
        raise RecordError(f"'Error Sentence' is not sentence {place} of 'Sentences'")
    return place


def _filled(row: Row, column: str) -> str:
    value = row.text(column)
    if value in _ABSENT:
        raise RecordError(f"{column!r} is absent from a text with an error")
    return " ".join(value.split())
