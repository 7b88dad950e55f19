"""ACI-Bench: whole visits, spoken by doctor and patient, with the clinical note (Yim et al., Scientific Data 2023)."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from mmmed.data.entries import plain
from mmmed.data.official import HeldOut, OfficialFile
from mmmed.data.question import about_text
from mmmed.data.tabular import Row, age_in_years, no_layout, present, quarantine, read_csv
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined

ORDER = "Write the clinical note on this visit."

_SEXES = {"female": "F", "male": "M", "": ""}
_ABOUT = ("encounter_id", "patient_gender", "patient_age", "cc")


_FILES = (
    OfficialFile("clinicalnlp_taskB_test1", "aci_test1", "test1", "test"),
    OfficialFile("clinicalnlp_taskC_test2", "aci_test2", "test2", "test"),
    OfficialFile("clef_taskC_test3", "aci_test3", "test3", "test"),
    OfficialFile("valid", "aci_valid", "validation", "validation"),
    OfficialFile("train", "aci_train", "train", "train"),
)


class AciBench:
    """Reads data/challenge_data of the repository, with metadata beside it, or a sample with metadata joined.

    Patients and names are invented; doctors' and patients' names are no attributes all the same. The official splits
    are kept.

    Args:
        root: The repository, its folder data/challenge_data, or the folder of a sample.
    """

    name = "aci_bench"

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the visits of test, validation and training set, in the order of the files.

        Raises:
            DataError: There is no such file, or one lacks a column.
        """
        held_out = HeldOut("dialogue")
        for path, about, file in self._files():
            columns = ("dataset", "encounter_id", "dialogue", "note")
            visits = list(read_csv(path, columns=columns if about else (*columns, *_ABOUT)))
            metadata = {row.maybe("encounter_id"): row for row in read_csv(about, columns=_ABOUT)} if about else {}
            read = partial(_examples, file=file, metadata=metadata, held_out=held_out)
            yield from quarantine(self.name, visits, read)

    def _files(self) -> list[tuple[Path, Path | None, OfficialFile]]:
        for folder in (self.root, self.root / "data" / "challenge_data"):
            released = [
                (folder / f"{file.release}.csv", folder / f"{file.release}_metadata.csv", file) for file in _FILES
            ]
            if found := [place for place in released if place[0].is_file() and place[1].is_file()]:
                return list(found)
        if sampled := [(path, None, file) for file in _FILES if (path := self.root / f"{file.sample}.csv").is_file()]:
            return list(sampled)
        raise no_layout(self.name, root=self.root, expected="train.csv with train_metadata.csv, or aci_train.csv")


def _years(age: str) -> float:
    # Two patients are so young that their age is given as "9-month".
    return age_in_years(re.sub(r"-month$", "M", age))


def _examples(row: Row, *, file: OfficialFile, metadata: Mapping[str, Row], held_out: HeldOut) -> Iterator[Example]:
    identifier, dialogue = row.text("encounter_id"), row.text("dialogue")
    about = metadata.get(identifier, row)
    sex, age = about.maybe("patient_gender").lower(), about.maybe("patient_age")
    if sex not in _SEXES:
        raise RecordError(f"'patient_gender' is {sex!r}; expected female, male or nothing")
    yield Example(
        id=identifier,
        patient=held_out.admit(plain(dialogue), split=file.split, name=identifier),
        turns=about_text(f"{dialogue}\n\n{ORDER}", row.text("note")),
        topic="note",
        split=file.split,
        source=AciBench.name,
        attributes=present(
            {
                "sex": _SEXES[sex],
                "age": _years(age) if age else None,
                "collection": row.maybe("dataset"),
                "complaint": about.maybe("cc"),
                "official_split": file.official,
            }
        ),
    )
