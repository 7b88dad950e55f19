import csv
from collections import Counter
from pathlib import Path

import pytest

from mmmed.data.card import read_card
from mmmed.data.sources.mts_dialog import HEADERS, MtsDialog
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

COLUMNS = ("ID", "section_header", "section_text", "dialogue")
ROW = ("0", "GENHX", "The patient\nis 76.", "Doctor: What brings you?\nPatient: My back.")


def write(path: Path, *rows: tuple[str, ...]) -> str:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return str(path.parent)


@pytest.mark.parametrize("name", ["Main-Dataset/MTS-Dialog-TrainingSet.csv", "mts_train.csv"])
def test_a_dialogue_is_asked_for_its_note_and_for_the_section(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, ROW)
    note, header = MtsDialog(str(tmp_path)).records()
    assert isinstance(note, Example) and isinstance(header, Example)
    assert (note.id, header.id, note.patient) == ("train:0:note", "train:0:header", "train:0")
    assert note.reference == "The patient\nis 76."
    assert note.turns[0].text.startswith("Doctor: What brings you?\nPatient: My back.\n\nWrite the section")
    assert "history of present illness" in note.question and "history of present illness" not in header.question
    assert (header.reference, header.options) == ("history of present illness", tuple(HEADERS.values()))
    assert note.attributes == {"section": "history of present illness", "official_split": "train"}


def test_files_that_each_count_from_0_do_not_collide_and_share_no_dialogue(tmp_path: Path) -> None:
    other = (*ROW[:3], "Doctor: Another.")
    write(tmp_path / "MTS-Dialog-TestSet-1-MEDIQA-Chat-2023.csv", ROW)
    write(tmp_path / "MTS-Dialog-TestSet-2-MEDIQA-Sum-2023.csv", other)
    write(tmp_path / "MTS-Dialog-ValidationSet.csv", (*ROW[:3], "Doctor: A third."))
    root = write(tmp_path / "MTS-Dialog-TrainingSet.csv", (*ROW[:3], "doctor:  WHAT brings you? patient: my back."))
    records = list(MtsDialog(root, questions=["header"]).records())
    examples = [record for record in records if isinstance(record, Example)]
    check_disjoint(examples)
    assert [(one.id, one.split) for one in examples] == [
        ("test1:0:header", "test"),
        ("test2:0:header", "test"),
        ("validation:0:header", "validation"),
    ]
    assert records[-1] == Quarantined(
        "mts_dialog",
        "MTS-Dialog-TrainingSet.csv:3",
        "its dialogue stands in the official test split as well (test1:0)",
    )


def test_an_unknown_section_is_set_aside(tmp_path: Path) -> None:
    (bad,) = MtsDialog(write(tmp_path / "mts_train.csv", ("0", "GENHXX", *ROW[2:]))).records()
    assert isinstance(bad, Quarantined)
    assert bad.reason == "'section_header' is 'GENHXX' (did you mean 'GENHX'?)"


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected MTS-Dialog-TrainingSet\.csv .*card data/mts_dialog\.md"):
        list(MtsDialog(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    records = list(MtsDialog(str(shared_data / "11_dialogue_notes")).records())
    examples = [record for record in records if isinstance(record, Example)]
    faults = [record for record in records if isinstance(record, Quarantined)]
    check_disjoint(examples)
    counts = read_card("mts_dialog").counts
    notes = Counter(one.attributes["official_split"] for one in examples if one.topic == "note")
    assert len(faults) == counts["training dialogues that stand in validation or test"] == 3
    assert all("its dialogue stands in the official" in fault.reason for fault in faults)
    assert notes == {
        "train": counts["train"] - len(faults),
        "validation": counts["validation"],
        "test1": counts["test1"],
    }
    assert sum(notes.values()) + len(faults) == counts["dialogues"] == 1501
    assert len({one.attributes["section"] for one in examples}) == counts["sections"] == len(HEADERS)
