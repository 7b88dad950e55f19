import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mmmed.data.card import read_card
from mmmed.data.source import read
from mmmed.data.sources.mmlu_medical import SUBJECTS, MmluMedical
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined

CELLS = ["A lesion, in short?", "face", "taste", "tears", "spit", "C"]


def release(root: Path, subject: str, official: str, *rows: list[str]) -> str:
    folder = root / "data" / official
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{subject}_{official}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(root)


def hub(root: Path) -> str:
    (root / "anatomy").mkdir()
    rows = [{"question": CELLS[0], "subject": "anatomy", "choices": CELLS[1:5], "answer": 2}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "anatomy" / "test-00000-of-00001.parquet")
    return str(root)


def sample(root: Path) -> str:
    record = {"id": "mmlu_anatomy_000", "question": CELLS[0], "answer": "C"}
    record |= {"options": dict(zip("ABCD", CELLS[1:5], strict=True)), "subject": "anatomy"}
    (root / "mmlu_anatomy_test.jsonl").write_text(json.dumps(record))
    return str(root)


@pytest.mark.parametrize(
    "write", [lambda root: release(root, "anatomy", "test", CELLS), hub, sample], ids=["release", "hub", "sample"]
)
def test_every_layout_gives_the_same_question(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    (example,) = read([MmluMedical(write(tmp_path), subjects=["anatomy"])], "test").examples
    assert (example.question, example.options, example.reference) == (CELLS[0], tuple(CELLS[1:5]), "tears")
    assert example.attributes == {"subject": "anatomy", "official_split": "test"}


def test_the_few_examples_of_prompts_are_the_training_split(tmp_path: Path) -> None:
    release(tmp_path, "anatomy", "val", ["Second?", *CELLS[1:]])
    release(tmp_path, "anatomy", "dev", ["Third?", *CELLS[1:]], CELLS)
    source = MmluMedical(release(tmp_path, "anatomy", "test", CELLS), subjects=["anatomy"])
    records = list(source.records())
    assert [(one.id, one.split) for one in records if isinstance(one, Example)] == [
        ("anatomy-test-1", "test"),
        ("anatomy-val-1", "validation"),
        ("anatomy-dev-1", "train"),
    ]
    assert [one.reason for one in records if isinstance(one, Quarantined)] == [
        "its question stands in the official test split as well (anatomy-test-1)"
    ]


def test_a_missing_subject_is_no_smaller_test(tmp_path: Path) -> None:
    root = release(tmp_path, "anatomy", "test", CELLS)
    message = r"expected the test questions of clinical_knowledge; .*or leave clinical_knowledge out of `subjects`"
    with pytest.raises(DataError, match=message):
        list(MmluMedical(root).records())
    with pytest.raises(ConfigError, match="there is no subject 'virology'; known: anatomy"):
        MmluMedical(root, subjects=["virology"])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["And?", "face", "face", "tears", "spit", "C"], "the option 'face' stands twice"),
        (["And?", "face", "taste", "tears", "spit", ""], "'answer' is empty"),
        (["And?", "face", "taste"], "3 cells where the header has 6"),
    ],
)
def test_questions_that_cannot_be_scored_are_set_aside(tmp_path: Path, row: list[str], reason: str) -> None:
    source = MmluMedical(release(tmp_path, "anatomy", "test", CELLS, row), subjects=["anatomy"])
    _, bad = source.records()
    assert isinstance(bad, Quarantined)
    assert bad.record == "anatomy_test.csv:2" and reason in bad.reason


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    held = [subject for subject in SUBJECTS if subject != "professional_medicine"]
    records = read([MmluMedical(str(shared_data / "08_qa_mcq"), subjects=held)], "test")
    assert not records.quarantined
    assert Counter(one.attributes["subject"] for one in records.examples) == read_card("mmlu_medical").counts
    with pytest.raises(DataError, match="professional_medicine"):
        list(MmluMedical(str(shared_data / "08_qa_mcq")).records())
