import csv
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.findings import question_about
from mmmed.data.sources.nih_cxr import FINDINGS, NihCxr
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

RELEASE = {
    "Image Index": "00000075_000.png",
    "Finding Labels": "Cardiomegaly|Effusion",
    "Follow-up #": "0",
    "Patient ID": "75",
    "Patient Age": "61",
    "Patient Sex": "F",
    "View Position": "PA",
}
RELEASE_2017 = {("Patient Gender" if name == "Patient Sex" else name): value for name, value in RELEASE.items()}
SAMPLE = {
    "image": "images/nih_00000075_000.png",
    "patient_id": "nih_00000075",
    "follow_up": "0",
    "sex": "F",
    "age": "61",
    "view": "PA",
    "findings": "Cardiomegaly;Effusion",
}
NORMAL = RELEASE | {"Image Index": "00000076_000.png", "Patient ID": "76", "Finding Labels": "No Finding"}


def write(path: Path, rows: list[dict[str, str]], *, images: str = "images") -> str:
    (path.parent / images).mkdir(parents=True, exist_ok=True)
    for name in ("00000075_000.png", "00000076_000.png", "00000077_000.png", "nih_00000075_000.png"):
        Image.new("L", (4, 4)).save(path.parent / images / name)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path.parent)


def examples(source: NihCxr) -> list[Example]:
    records = list(source.records())
    assert not [record for record in records if isinstance(record, Quarantined)]
    return [record for record in records if isinstance(record, Example)]


@pytest.mark.parametrize(
    ("file", "row", "images"),
    [
        ("Data_Entry_2017_v2020.csv", RELEASE, "images"),
        ("Data_Entry_2017.csv", RELEASE_2017, "images_002/images"),
        ("metadata.csv", SAMPLE, "images"),
    ],
)
def test_every_layout_gives_the_same_questions(tmp_path: Path, file: str, row: dict[str, str], images: str) -> None:
    found = examples(NihCxr(write(tmp_path / file, [row], images=images), questions="all"))
    assert [example.id for example in found] == [f"00000075_000:{finding}" for finding in FINDINGS]
    assert [example.topic for example in found if example.reference == "yes"] == ["cardiomegaly", "effusion"]
    for example in found:
        assert example.options == ("yes", "no")
        assert example.turns[0].text.startswith("<image>\n")
        assert (example.patient, example.study) == ("nih_00000075", "nih_00000075@0")
        assert example.attributes == {"sex": "F", "age": 61.0, "view": "PA", "findings": "Cardiomegaly;Effusion"}
        assert example.images[0].open().size == (4, 4)


def test_findings_are_asked_in_plain_words() -> None:
    assert question_about("No Finding") == "Is this radiograph normal?"
    assert question_about("Pleural_Thickening") == "Is there evidence of pleural thickening?"
    assert question_about("Mass") == "Is there evidence of a mass?"


def test_balanced_questions_have_as_many_no_as_yes_for_each_image(tmp_path: Path) -> None:
    third = RELEASE | {"Image Index": "00000077_000.png", "Patient ID": "77", "Finding Labels": "Mass|Hernia"}
    root = write(tmp_path / "Data_Entry_2017.csv", [RELEASE, NORMAL, third])
    found = examples(NihCxr(root))
    assert Counter((example.patient[-2:], example.reference) for example in found) == {
        ("75", "yes"): 2,
        ("75", "no"): 2,
        ("76", "yes"): 1,
        ("76", "no"): 1,
        ("77", "yes"): 2,
        ("77", "no"): 2,
    }
    assert [example.id for example in found] == [example.id for example in examples(NihCxr(root))]


def test_findings_that_nobody_has_are_not_asked_when_balanced(tmp_path: Path) -> None:
    found = examples(NihCxr(write(tmp_path / "Data_Entry_2017.csv", [RELEASE, NORMAL])))
    assert {example.topic for example in found} == {"cardiomegaly", "effusion", "no finding"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Image Index": "00009999_000.png"}, "image '00009999_000.png' is missing"),
        ({"Image Index": ""}, "'Image Index' is empty"),
        ({"Patient ID": "x"}, "'x' is no patient number"),
        ({"Patient Age": "411"}, "'411' is no age"),
        ({"Patient Sex": ""}, "'Patient Sex' is empty"),
        ({"View Position": "LL"}, "'View Position' is 'LL'"),
        ({"Finding Labels": "Efusion"}, "unknown finding 'Efusion' (did you mean 'Effusion'?)"),
        ({"Finding Labels": "Mass|No Finding"}, "'No Finding' stands beside findings"),
        ({}, "is used before"),
    ],
)
def test_malformed_rows_are_set_aside(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    root = write(tmp_path / "Data_Entry_2017.csv", [RELEASE, RELEASE | change])
    records = list(NihCxr(root, questions="all").records())
    (bad,) = [record for record in records if isinstance(record, Quarantined)]
    assert len(records) == len(FINDINGS) + 1
    assert (bad.source, bad.record) == ("nih_cxr", "Data_Entry_2017.csv:3")
    assert reason in bad.reason


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    row = {name: value for name, value in RELEASE.items() if name != "Patient Sex"}
    with pytest.raises(
        DataError, match=r"Data_Entry_2017\.csv lacks the column\(s\) 'Patient Sex'; it has 'Image Index'"
    ):
        list(NihCxr(write(tmp_path / "Data_Entry_2017.csv", [row])).records())


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected Data_Entry_2017\*\.csv .*card data/nih_cxr\.md"):
        list(NihCxr(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    root = str(shared_data / "02_cxr_nih_labels")
    found = examples(NihCxr(root))
    check_disjoint(found)
    counts = read_card("nih_cxr").counts
    assert len({example.images[0].name for example in found}) == counts["images"] == 481
    assert len({example.patient for example in found}) == counts["patients"]
    assert len(found) == counts["questions, balanced"]
    assert len(examples(NihCxr(root, questions="all"))) == counts["questions, all"]
    answers = Counter(example.reference for example in found)
    assert answers["yes"] == answers["no"] == counts["findings present"]
    # "yes" must be no safe guess for any single finding either.
    for finding in {example.topic for example in found}:
        replies = [example.reference for example in found if example.topic == finding]
        assert 0.35 < replies.count("yes") / len(replies) < 0.65, finding
