"""MTS-Dialog: short talks of doctor and patient with the section of a note on them (Ben Abacha et al., EACL 2023)."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from mmmed.data.entries import plain
from mmmed.data.official import HeldOut, OfficialFile
from mmmed.data.question import about_text
from mmmed.data.tabular import Row, no_layout, quarantine, read_csv
from mmmed.errors import RecordError, did_you_mean
from mmmed.records import Example, Quarantined, Turn

Question = Literal["note", "header"]

HEADERS = {
    "FAM/SOCHX": "family and social history",
    "GENHX": "history of present illness",
    "PASTMEDICALHX": "past medical history",
    "CC": "chief complaint",
    "PASTSURGICAL": "past surgical history",
    "ALLERGY": "allergies",
    "ROS": "review of systems",
    "MEDICATIONS": "medications",
    "ASSESSMENT": "assessment",
    "EXAM": "physical examination",
    "DIAGNOSIS": "diagnosis",
    "DISPOSITION": "disposition",
    "PLAN": "plan",
    "EDCOURSE": "emergency department course",
    "IMMUNIZATIONS": "immunizations",
    "IMAGING": "imaging",
    "GYNHX": "gynecologic history",
    "PROCEDURES": "procedures",
    "OTHER_HISTORY": "other history",
    "LABS": "laboratory results",
}


_FILES = (
    OfficialFile("MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv", "mts_test1.csv", "test1", "test"),
    OfficialFile("MTS-Dialog-TestSet-2-MEDIQA-Sum-2023.csv", "mts_test2.csv", "test2", "test"),
    OfficialFile("MTS-Dialog-ValidationSet.csv", "mts_valid.csv", "validation", "validation"),
    OfficialFile("MTS-Dialog-TrainingSet.csv", "mts_train.csv", "train", "train"),
)


class MtsDialog:
    """Reads the main data set of the repository, or a sample of it (mts_*.csv).

    Each dialogue yields the order to write the section of the note that it tells ("note"), and the question which
    section that is ("header"). The official splits are kept; a dialogue that stands in two is left out of the one
    that is learned from.

    Args:
        root: The repository, its folder Main-Dataset, or the folder of a sample.
        questions: What is asked about each dialogue.
    """

    name = "mts_dialog"

    def __init__(self, root: str, *, questions: Sequence[Question] = ("note", "header")) -> None:
        self.root = Path(root)
        self.questions = tuple(questions)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the dialogues of test, validation and training set, in the order of the files.

        Raises:
            DataError: There is no such file, or one lacks a column.
        """
        held_out = HeldOut("dialogue")
        for path, file in self._files():
            rows = read_csv(path, columns=("ID", "section_header", "section_text", "dialogue"))
            yield from quarantine(self.name, rows, partial(self._examples, file=file, held_out=held_out))

    def _files(self) -> list[tuple[Path, OfficialFile]]:
        for folder in (self.root, self.root / "Main-Dataset"):
            for places in (
                [(folder / file.release, file) for file in _FILES],
                [(folder / file.sample, file) for file in _FILES],
            ):
                if found := [(path, file) for path, file in places if path.is_file()]:
                    return found
        raise no_layout(self.name, root=self.root, expected=f"{_FILES[-1].release} or {_FILES[-1].sample} and the like")

    def _examples(self, row: Row, *, file: OfficialFile, held_out: HeldOut) -> Iterator[Example]:
        # Each file counts its dialogues from 0.
        identifier = f"{file.official}:{row.text('ID')}"
        dialogue, code = row.text("dialogue"), row.text("section_header").upper()
        if code not in HEADERS:
            raise RecordError(f"'section_header' is {code!r}{did_you_mean(code, HEADERS)}")
        unit = held_out.admit(plain(dialogue), split=file.split, name=identifier)
        header = HEADERS[code]
        order = f'{dialogue}\n\nWrite the section "{header}" of the clinical note on this conversation.'
        asked = f"{dialogue}\n\nWhich section of a clinical note does this conversation belong to?"
        turns: dict[Question, tuple[Turn, ...]] = {
            "note": about_text(order, row.text("section_text")),
            "header": about_text(asked, header),
        }
        for topic in self.questions:
            yield Example(
                id=f"{identifier}:{topic}",
                patient=unit,
                turns=turns[topic],
                options=tuple(HEADERS.values()) if topic == "header" else (),
                topic=topic,
                split=file.split,
                source=self.name,
                attributes={"section": header, "official_split": file.official},
            )
