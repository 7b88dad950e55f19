from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.sources.isic import DIAGNOSES, Edition, Isic
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined


def one_hot(edition: Edition, image: str, code: str) -> str:
    return ",".join([image, *("1.0" if name == code else "0.0" for name in DIAGNOSES[edition])])


def table(edition: Edition, *rows: tuple[str, str]) -> str:
    return "\n".join([",".join(["image", *DIAGNOSES[edition]]), *(one_hot(edition, *row) for row in rows), ""])


def put(path: Path, text: str = "", *, images: tuple[str, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if text:
        path.write_text(text)
    for name in images:
        path.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path / f"{name}.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The three challenges side by side, each in a folder of its own."""
    first = tmp_path / "2018"
    name = "ISIC2018_Task3_{}_{}"
    training = table(2018, ("ISIC_1", "MEL"), ("ISIC_2", "NV"))
    put(first / name.format("Training", "GroundTruth") / f"{name.format('Training', 'GroundTruth')}.csv", training)
    put(first / f"{name.format('Test', 'GroundTruth')}.csv", table(2018, ("ISIC_3", "AKIEC")))
    groupings = "image,lesion_id,diagnosis_confirm_type\nISIC_1,HAM_7,histopathology\nISIC_2,HAM_7,follow-up\n"
    put(first / f"{name.format('Training', 'LesionGroupings')}.csv", groupings)
    put(first / name.format("Training", "Input"), images=("ISIC_1", "ISIC_2"))
    put(first / name.format("Test", "Input"), images=("ISIC_3",))
    second = tmp_path / "2019"
    rows = (("ISIC_4", "SCC"), ("ISIC_5_downsampled", "UNK"), ("ISIC_6", "AK"))
    put(second / "ISIC_2019_Training_GroundTruth.csv", table(2019, *rows))
    facts = "image,age_approx,anatom_site_general,lesion_id,sex\n"
    facts += "ISIC_4,55.0,anterior torso,BCN_1,female\nISIC_5_downsampled,,,,\nISIC_6,40,,BCN_2,male\n"
    put(second / "ISIC_2019_Training_Metadata.csv", facts)
    folder = second / "ISIC_2019_Training_Input"
    put(folder / "ISIC_2019_Training_Input", images=("ISIC_4", "ISIC_5_downsampled", "ISIC_6"))
    third = tmp_path / "2020"
    header = "image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,diagnosis,"
    header += "benign_malignant,target\n"
    lines = "ISIC_7,IP_1,IL_1,male,45,head/neck,unknown,benign,0\nISIC_8,IP_1,IL_2,male,45,,melanoma,malignant,1\n"
    lines += "ISIC_9,IP_2,IL_3,,,torso,nevus,benign,0\n"
    put(third / "ISIC_2020_Training_GroundTruth_v2.csv", header + lines)
    put(third / "ISIC_2020_Training_Duplicates.csv", "image_name_1,image_name_2\nISIC_8,ISIC_9\n")
    put(third / "train", images=("ISIC_7", "ISIC_8", "ISIC_9"))
    return tmp_path


def read(root: Path, edition: Edition, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    records = list(Isic(str(root / str(edition)), edition=edition, **settings).records())
    found = [record for record in records if isinstance(record, Example)]
    check_disjoint(found)
    return found, [record for record in records if isinstance(record, Quarantined)]


def test_the_challenge_of_2018_is_read_with_its_lesions(root: Path) -> None:
    found, bad = read(root, 2018)
    assert [(example.id, example.patient, example.reference) for example in found] == [
        ("ISIC_1:diagnosis", "HAM_7", "melanoma"),
        ("ISIC_1:malignant", "HAM_7", "yes"),
        ("ISIC_2:diagnosis", "HAM_7", "melanocytic nevus"),
        ("ISIC_2:malignant", "HAM_7", "no"),
        ("ISIC_3:diagnosis", "ISIC_3", "actinic keratosis / Bowen's disease"),
        ("ISIC_3:malignant", "ISIC_3", "yes"),
    ]
    assert len(found[0].options) == 7
    assert found[0].attributes == {
        "confirmed_by": "histopathology",
        "diagnosis": "melanoma",
        "edition": "2018",
        "official_split": "training",
    }
    assert not bad
    official, _ = read(root, 2018, splits="official", questions=["malignant"])
    assert [example.split for example in official] == ["train", "train", "test"]


def test_the_challenge_of_2019_is_read_with_its_metadata(root: Path) -> None:
    found, bad = read(root, 2019)
    assert [(example.id, example.patient, example.reference) for example in found] == [
        ("ISIC_4:diagnosis", "BCN_1", "squamous cell carcinoma"),
        ("ISIC_4:malignant", "BCN_1", "yes"),
        # What is none of the classes is neither malignant nor benign.
        ("ISIC_5_downsampled:diagnosis", "ISIC_5", "none of the others"),
        ("ISIC_6:diagnosis", "BCN_2", "actinic keratosis"),
        ("ISIC_6:malignant", "BCN_2", "yes"),
    ]
    assert found[0].attributes["sex"] == "F" and found[0].attributes["age"] == 55.0
    assert found[0].attributes["site"] == "anterior torso"
    assert "sex" not in found[2].attributes
    assert found[0].images[0].open().size == (4, 4)
    assert not bad


def test_the_challenge_of_2020_is_read_without_its_duplicates(root: Path) -> None:
    found, bad = read(root, 2020)
    assert [(example.id, example.patient, example.reference) for example in found] == [
        ("ISIC_7:malignant", "IP_1", "no"),
        ("ISIC_8:diagnosis", "IP_1", "melanoma"),
        ("ISIC_8:malignant", "IP_1", "yes"),
    ]
    assert Counter(example.split for example in found).most_common(1)[0][1] == 3
    assert [(one.record, one.reason) for one in bad] == [
        ("ISIC_2020_Training_GroundTruth_v2.csv:4", "image 'ISIC_9' shows the same as 'ISIC_8'")
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (one_hot(2019, "ISIC_4", "none"), "0 diagnoses are marked; expected one"),
        (one_hot(2019, "ISIC_44", "NV"), "image 'ISIC_44.jpg' is missing"),
        (one_hot(2019, "ISIC_4", "SCC"), "is used before"),
        (one_hot(2019, "", "SCC"), "'image' is empty"),
    ],
)
def test_malformed_rows_are_set_aside(root: Path, row: str, reason: str) -> None:
    file = root / "2019" / "ISIC_2019_Training_GroundTruth.csv"
    file.write_text(file.read_text() + row + "\n")
    _, (bad,) = read(root, 2019)
    assert reason in bad.reason


@pytest.mark.parametrize("edition", [2018, 2019, 2020])
def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path, edition: Edition) -> None:
    with pytest.raises(DataError, match=rf"expected ISIC.*{edition}.*card data/isic\.md"):
        read(tmp_path, edition)
