import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.sources.pocus import FINDINGS, Pocus
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

SAMPLE = {
    "image": "images/Cov_f20.jpg",
    "patient_id": "pocus_35",
    "video_id": "Cov",
    "label": "COVID-19",
    "probe": "convex",
    "sex": "F",
    "age": "35",
    "caption_source": "small pleural  effusion",
    "comment_md1": "effusion, B-lines",
    "comment_md2": "B-lines",
    "patient_comment": "Lotte",
    **dict.fromkeys(FINDINGS, "0"),
    "effusion": "1",
    "license": "CC BY-NC 4.0",
}
RELEASE = {
    "Current location": "data/pocus_images/Convex",
    "Filename": "Cov_f20",
    "Label": "COVID-19",
    "License": "CC BY-NC 4.0",
    "Type": "Image",
    "Probe": "convex",
    "Comments from web site": "small pleural  effusion",
    "Comments first medical doctor (MD1)": "effusion, B-lines",
    "MD2": "B-lines",
    "Gender": "w",
    "Age": "35",
    "Patient ID / Name": "pocus_35",
    "Preconditions / Comments about patient": "Lotte",
    "": "",
    "Effusion": "1",
    "Consolidations": "0",
    "B-lines": "0",
    "A-lines": "0",
    "Pleural line irregularities": "0",
    "Air bronchogram": "0",
    "Healthy": "0",
}


def write(root: Path, rows: list[dict[str, str]]) -> Path:
    release = "Filename" in rows[0]
    with (root / ("dataset_metadata.csv" if release else "metadata.csv")).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    folder = root / ("pocus_images/Convex" if release else "images")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Cov_f20", "Cov_f62"):
        Image.new("L", (4, 4)).save(folder / f"{name}.jpg")
    return root


def read(root: Path, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    records = list(Pocus(str(root), **settings).records())
    found = [record for record in records if isinstance(record, Example)]
    check_disjoint(found)
    return found, [record for record in records if isinstance(record, Quarantined)]


@pytest.mark.parametrize("row", [SAMPLE, RELEASE])
def test_both_layouts_give_the_same_questions(tmp_path: Path, row: dict[str, str]) -> None:
    everything = ["caption", "reading", "diagnosis", "finding"]
    found, bad = read(write(tmp_path, [row]), questions=everything, findings="all")
    assert [(one.id, one.reference) for one in found[:4]] == [
        ("Cov_f20:caption", "small pleural effusion"),
        ("Cov_f20:reading", "effusion, B-lines; B-lines"),
        ("Cov_f20:diagnosis", "COVID-19"),
        ("Cov_f20:effusion", "yes"),
    ]
    assert len(found) == 3 + len(FINDINGS)
    assert found[2].options == ("COVID-19", "bacterial pneumonia", "viral pneumonia", "healthy")
    for one in found:
        assert (one.patient, one.licence) == ("pocus_35", "CC BY-NC 4.0")
        assert one.attributes == {
            "sex": "F",
            "age": 35.0,
            "probe": "convex",
            "diagnosis": "COVID-19",
            "findings": "effusion",
        }
        # The remark about the patient is a name.
        assert "Lotte" not in repr(one)
    assert found[0].images[0].open().size == (4, 4)
    assert not bad


def test_signs_that_nobody_noted_are_not_asked(tmp_path: Path) -> None:
    blank = SAMPLE | dict.fromkeys(FINDINGS, "") | {"image": "images/Cov_f62.jpg"}
    found, _ = read(write(tmp_path, [SAMPLE, blank]), questions=["finding"], findings="all")
    assert {Path(one.images[0].name).stem for one in found} == {"Cov_f20"}
    balanced, _ = read(tmp_path, questions=["finding"])
    assert [one.topic for one in balanced] == ["effusion"]


def test_videos_and_rows_put_aside_are_not_read_from_the_release(tmp_path: Path) -> None:
    rows = [RELEASE, RELEASE | {"Type": "video"}, RELEASE | {"Current location": "not_to_use", "Filename": "gone"}]
    found, bad = read(write(tmp_path, rows), questions=["diagnosis"])
    assert len(found) == 1
    assert not bad


@pytest.mark.parametrize(
    ("row", "change", "reason"),
    [
        (SAMPLE, {"comment_md1": "mostly liver, Do not use"}, "an expert says of 'images/Cov_f20.jpg': mostly liver"),
        (SAMPLE, {"label": "Covid"}, "'label' is 'Covid'"),
        (SAMPLE, {"image": "images/gone.jpg"}, "image 'images/gone.jpg' is missing"),
        (SAMPLE, {"patient_id": ""}, "'patient_id' is empty"),
        (SAMPLE, {"age": "999"}, "'999' is no age"),
        (SAMPLE, {}, "is used before"),
        (RELEASE, {"Filename": "gone"}, "image 'gone' is missing under pocus_images/"),
    ],
)
def test_malformed_rows_are_set_aside(tmp_path: Path, row: dict[str, str], change: dict[str, str], reason: str) -> None:
    _, (bad,) = read(write(tmp_path, [row, row | change]))
    assert bad.record.endswith("csv:3")
    assert reason in bad.reason


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected dataset_metadata\.csv and pocus_images/.*card data/pocus\.md"):
        read(tmp_path)


@pytest.mark.parametrize("number", ["pocus_210", "210", "210.0"])
def test_one_person_under_two_numbers_is_one_patient(tmp_path: Path, number: str) -> None:
    found, _ = read(write(tmp_path, [SAMPLE | {"patient_id": number}]))
    assert {one.patient.removeprefix("pocus_") for one in found} == {"175"}


@pytest.mark.shared
def test_pairs_that_show_one_clip_are_one_patient(shared_data: Path) -> None:
    found, _ = read(shared_data / "05_pocus_ultrasound", questions=["diagnosis"])
    patients = {one.study: one.patient for one in found}
    for first, second in (
        ("Vir_prospective_file1", "Vir_or_Pneu_prospective_file4"),
        ("Pneu_Avi_Video_002", "Pneu_northumbria_1009_vid1"),
        ("Pneu_northumbria_0409_set2_vid3", "Pneu_northumbria_0409_set2_vid4"),
        ("Pneu_northumbria_0409_set4_img2", "Pneu_northumbria_0409_set6_img6"),
    ):
        assert patients[first] == patients[second]


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    counts = read_card("pocus").counts
    everything = ["caption", "reading", "diagnosis", "finding"]
    found, bad = read(shared_data / "05_pocus_ultrasound", questions=everything)
    images = {one.images[0].name for one in found}
    assert len(images) + len(bad) == counts["images"] == 222
    assert len(bad) == counts["images that an expert refused"] == 2
    assert len({one.patient for one in found}) == counts["patients"] == 85
    topics = Counter(one.topic for one in found)
    assert topics["caption"] == counts["captions"]
    assert topics["reading"] == counts["readings"]
    labels = Counter(one.reference for one in found if one.topic == "diagnosis")
    assert labels == {label: counts[label] for label in labels}
    answers = Counter(one.reference for one in found if one.options == ("yes", "no"))
    assert answers["yes"] == answers["no"] == counts["signs present"]
    assert not any("Lotte" in turn.text for one in found for turn in one.turns)
    assert max(Counter(one.patient for one in found if one.topic == "diagnosis").values()) > 1
