import csv
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.sources.ham10000 import DIAGNOSES, Ham10000
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

RELEASE = {
    "lesion_id": "HAM_0006604",
    "image_id": "ISIC_0030821",
    "dx": "mel",
    "dx_type": "histo",
    "age": "75.0",
    "sex": "male",
    "localization": "neck",
}
SAMPLE = {("image" if name == "image_id" else name): value for name, value in RELEASE.items()} | {
    "image": "images/ISIC_0030821.jpg",
    "sex": "M",
}


def write(path: Path, rows: list[dict[str, str]], *, images: str) -> str:
    (path.parent / images).mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(path.parent / images / "ISIC_0030821.jpg")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(path.parent)


def examples(source: Ham10000) -> list[Example]:
    records = list(source.records())
    assert not [record for record in records if isinstance(record, Quarantined)]
    return [record for record in records if isinstance(record, Example)]


@pytest.mark.parametrize(
    ("file", "row", "images"),
    [
        ("HAM10000_metadata", RELEASE, "HAM10000_images_part_2"),
        ("HAM10000_metadata.csv", RELEASE, "HAM10000_images_part1"),
        ("metadata.csv", SAMPLE, "images"),
    ],
)
def test_every_layout_gives_the_same_questions(tmp_path: Path, file: str, row: dict[str, str], images: str) -> None:
    diagnosis, malignant = examples(Ham10000(write(tmp_path / file, [row], images=images)))
    assert (diagnosis.id, diagnosis.topic, diagnosis.reference) == ("ISIC_0030821:diagnosis", "diagnosis", "melanoma")
    assert diagnosis.options == tuple(DIAGNOSES.values())
    assert (malignant.id, malignant.topic, malignant.reference) == ("ISIC_0030821:malignant", "malignant", "yes")
    assert malignant.turns[0].text == "<image>\nIs this lesion malignant?"
    for example in (diagnosis, malignant):
        assert example.patient == "HAM_0006604"
        assert example.attributes == {
            "sex": "M",
            "age": 75.0,
            "site": "neck",
            "confirmed_by": "histo",
            "diagnosis": "melanoma",
        }
        assert example.images[0].open().mode == "RGB"


@pytest.mark.parametrize(
    ("dx", "answer"),
    [("mel", "yes"), ("bcc", "yes"), ("akiec", "yes"), ("nv", "no"), ("bkl", "no"), ("df", "no"), ("vasc", "no")],
)
def test_three_of_seven_diagnoses_are_malignant(tmp_path: Path, dx: str, answer: str) -> None:
    root = write(tmp_path / "metadata.csv", [SAMPLE | {"dx": dx}], images="images")
    assert [example.reference for example in examples(Ham10000(root, questions=["malignant"]))] == [answer]


def test_unknown_facts_are_absent(tmp_path: Path) -> None:
    row = RELEASE | {"sex": "unknown", "age": "", "localization": "unknown", "dx_type": ""}
    root = write(tmp_path / "HAM10000_metadata", [row], images="HAM10000_images_part_1")
    assert examples(Ham10000(root))[0].attributes == {"diagnosis": "melanoma"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": "ISIC_1"}, "image 'ISIC_1.jpg' is missing"),
        ({"image_id": ""}, "'image_id' is empty"),
        ({"lesion_id": ""}, "'lesion_id' is empty"),
        ({"dx": "mell"}, "'dx' is 'mell' (did you mean 'mel'?)"),
        ({"sex": "x"}, "'sex' is 'x'"),
        ({"age": "old"}, "'old' is no age"),
        ({}, "the identifier 'ISIC_0030821:diagnosis' is used before"),
    ],
)
def test_malformed_rows_are_set_aside(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    root = write(tmp_path / "HAM10000_metadata.csv", [RELEASE, RELEASE | change], images="images")
    *good, bad = Ham10000(root).records()
    assert len(good) == 2
    assert isinstance(bad, Quarantined)
    assert (bad.source, bad.record) == ("ham10000", "HAM10000_metadata.csv:3")
    assert reason in bad.reason


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    row = {name: value for name, value in RELEASE.items() if name != "dx"}
    root = write(tmp_path / "HAM10000_metadata.csv", [row], images="images")
    with pytest.raises(DataError, match=r"HAM10000_metadata\.csv lacks the column\(s\) 'dx'; it has 'lesion_id'"):
        list(Ham10000(root).records())


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected HAM10000_metadata.*card data/ham10000\.md"):
        list(Ham10000(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    found = examples(Ham10000(str(shared_data / "06_skin_ham10000")))
    check_disjoint(found)
    counts = read_card("ham10000").counts
    assert len({example.images[0].name for example in found}) == counts["images"] == 1388
    assert len({example.patient for example in found}) == counts["lesions"]
    diagnoses = Counter(example.reference for example in found if example.topic == "diagnosis")
    assert diagnoses == {name: counts[dx] for dx, name in DIAGNOSES.items()}
    malignant = [example.reference for example in found if example.topic == "malignant"]
    assert (len(malignant), malignant.count("yes")) == (counts["malignant questions"], counts["malignant answers yes"])
