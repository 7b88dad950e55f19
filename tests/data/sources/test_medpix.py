import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.sources.medpix import MedPix
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

IMAGE = {
    "Type": "CT",
    "U_id": "MPX1009",
    "image": "MPX1009_synpic46283",
    "Description": {
        "ACR Codes": "8.-1",
        "Age": "73",
        "Caption": "The prostate is\nenlarged.",
        "Figure Part": None,
        "Modality": "CT - noncontrast",
        "Plane": "Coronal",
        "Sex": "male",
    },
    "Location": "Genitourinary",
    "Location Category": "Reproductive and Urinary System",
}
CASE = {
    "U_id": "MPX1009",
    "TAC": ["MPX1009_synpic46283"],
    "MRI": ["MPX1009_synpic46295"],
    "Case": {
        "Title": "Bladder Diverticulum",
        "History": "73 year old man.",
        "Exam": "N/A",
        "Findings": "Bladder with diverticulum.",
        "Case Diagnosis": "Bladder Diverticulum",
        "Diagnosis By": None,
    },
    "Topic": {"Title": "Bladder Diverticulum", "Category": "Diverticulum"},
}


def image(name: str, **changes: Any) -> dict[str, Any]:
    described = IMAGE["Description"] | {key: value for key, value in changes.items() if key in ("Caption", "Age")}
    return IMAGE | {"image": name, "Description": described, "U_id": changes.get("case", "MPX1009")}


def write(root: Path, images: list[dict[str, Any]], cases: list[dict[str, Any]], *, lists: bool = True) -> Path:
    (root / "Descriptions.json").write_text(json.dumps(images))
    (root / "Case_topic.json").write_text(json.dumps(cases))
    if lists:
        (root / "splitted_dataset").mkdir(exist_ok=True)
        parts = {"train": ["MPX1"], "train_1": ["MPX1"], "dev": ["MPX1009"], "test": ["MPX2"]}
        (root / "splitted_dataset" / "uid_list.json").write_text(json.dumps(parts))
    (root / "images").mkdir(exist_ok=True)
    for name in ("MPX1009_synpic46283", "MPX1009_synpic46295"):
        Image.new("L", (4, 4)).save(root / "images" / f"{name}.png")
    return root


def read(root: Path, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    records = list(MedPix(str(root), **settings).records())
    found = [record for record in records if isinstance(record, Example)]
    check_disjoint(found)
    return found, [record for record in records if isinstance(record, Quarantined)]


def test_images_are_asked_for_captions_and_cases_for_findings_and_diagnosis(tmp_path: Path) -> None:
    found, bad = read(write(tmp_path, [IMAGE], [CASE]), questions=["caption", "findings", "diagnosis"])
    caption, findings, diagnosis = found
    assert (caption.id, caption.patient, caption.split) == ("MPX1009_synpic46283:caption", "MPX1009", "validation")
    assert caption.reference == "The prostate is enlarged."
    assert caption.attributes == {
        "sex": "M",
        "age": 73.0,
        "modality": "CT",
        "plane": "Coronal",
        "location": "Genitourinary",
        "official_split": "dev",
    }
    assert [len(one.images) for one in found] == [1, 2, 2]
    assert findings.turns[0].text == "<image>\n<image>\nDescribe the findings of these images."
    assert findings.reference == "Bladder with diverticulum."
    assert diagnosis.turns[0].text == "<image>\n<image>\n73 year old man.\nWhat is the diagnosis?"
    assert (diagnosis.reference, diagnosis.study) == ("Bladder Diverticulum", "MPX1009")
    assert caption.images[0].open().size == (4, 4)
    assert not bad


def test_without_the_official_lists_splits_go_by_case(tmp_path: Path) -> None:
    root = write(tmp_path, [IMAGE, image("MPX1009_synpic46295")], [CASE], lists=False)
    found, _ = read(root, fractions=(0.0, 0.0, 1.0))
    assert {one.split for one in found} == {"test"}
    assert not any("official_split" in one.attributes for one in found)
    assert {one.split for one in read(write(tmp_path, [IMAGE], [CASE]), splits="hash")[0]} != {None}


@pytest.mark.parametrize(("age", "years"), [("73", 73.0), ("36 y", 36.0), ("6 months", None), ("middle-aged", None)])
def test_an_age_that_is_no_number_of_years_is_not_known(tmp_path: Path, age: str, years: float | None) -> None:
    (found,), _ = read(write(tmp_path, [image("MPX1009_synpic46283", Age=age)], []), questions=["caption"])
    assert found.attributes.get("age") == years


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (image("MPX1009_synpic46295", Caption="IN PROGRESS."), "'IN PROGRESS.'; it says nothing"),
        (image("MPX1009_synpic46295", Caption=None), "'Description.Caption' is empty"),
        (image("gone"), "image 'images/gone.png' is missing"),
        (image("MPX1009_synpic46295", case="MPX7"), "case 'MPX7' stands in no list"),
        (IMAGE, "is used before"),
        ("text", "expected an object, not str"),
    ],
)
def test_malformed_images_are_set_aside(tmp_path: Path, record: Any, reason: str) -> None:
    _, (bad,) = read(write(tmp_path, [IMAGE, record], []), questions=["caption"])
    assert (bad.source, bad.record) == ("medpix", "Descriptions.json[1]")
    assert reason in bad.reason


def test_cases_without_images_are_set_aside_and_empty_answers_not_asked_for(tmp_path: Path) -> None:
    cases = [CASE | {"TAC": None, "MRI": []}, CASE | {"U_id": "MPX2", "Case": {"Case Diagnosis": "N/A"}}]
    found, bad = read(write(tmp_path, [IMAGE], cases), questions=["diagnosis"])
    assert not found
    assert [one.reason for one in bad] == ["its case names no image"]


def test_files_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected Case_topic\.json, Descriptions\.json .*card data/medpix\.md"):
        read(tmp_path)
    root = write(tmp_path, [IMAGE], [CASE])
    (root / "Case_topic.json").write_text("{}")
    with pytest.raises(DataError, match="is no array of records"):
        read(root)
    (root / "Descriptions.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read(root)
