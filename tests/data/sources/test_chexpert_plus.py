import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmmed.data.sources.chexpert_plus import CheXpertPlus
from mmmed.data.study import StudyQuestions
from mmmed.errors import DataError
from mmmed.processing.findings.labeller import OBSERVATIONS
from mmmed.records import Example, Quarantined

ROW = {
    "path_to_image": "train/patient42142/study5/view1_frontal.jpg",
    "path_to_dcm": "train/patient42142/study5/view1_frontal.dcm",
    "frontal_lateral": "Frontal",
    "ap_pa": "AP",
    "deid_patient_id": "patient42142",
    "patient_report_date_order": "5",
    "report": "NARRATIVE: ...",
    "section_findings": "Heart is \n enlarged.",
    "section_impression": "1. CARDIOMEGALY.",
    "age": "66.0",
    "sex": "Female",
    "race": "White",
    "ethnicity": "Non-Hispanic/Non-Latino",
    "insurance_type": "Medicare",
    "split": "train",
}
LATERAL = ROW | {
    "path_to_image": "train/patient42142/study5/view2_lateral.jpg",
    "frontal_lateral": "Lateral",
    "ap_pa": "",
}
VALID = ROW | {
    "path_to_image": "valid/patient64541/study1/view1_frontal.jpg",
    "deid_patient_id": "patient64541",
    "section_findings": "",
    "section_impression": "",
    "age": "0",
    "sex": "Unknown",
    "race": "Unknown",
    "insurance_type": "",
    "split": "valid",
}


def write(root: Path, rows: list[dict[str, str]], *, images: str = "PNG/{}.png") -> Path:
    with (root / "df_chexpert_plus_240401.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    labels = root / "chexbert_labels"
    labels.mkdir(exist_ok=True)
    lines = [
        {"path_to_image": row["path_to_image"]} | dict.fromkeys(OBSERVATIONS) | {"Cardiomegaly": 1.0, "Edema": -1.0}
        for row in rows
    ]
    (labels / "impression_fixed.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for row in rows:
        path = root / images.format(row["path_to_image"].removesuffix(".jpg"))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    return root


def read(root: Path, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    splits = settings.pop("splits", "official")
    records = list(CheXpertPlus(str(root), splits=splits, ask=StudyQuestions(**settings)).records())
    found = [record for record in records if isinstance(record, Example)]
    return found, [record for record in records if isinstance(record, Quarantined)]


def test_reports_come_with_all_films_and_with_demographics(tmp_path: Path) -> None:
    found, bad = read(write(tmp_path, [ROW, LATERAL, VALID]), questions=("report", "impression"))
    report, impression = found
    assert (report.id, report.patient, report.split) == ("patient42142/study5:report", "patient42142", "train")
    assert report.reference == "Findings: Heart is enlarged.\nImpression: 1. CARDIOMEGALY."
    assert impression.reference == "1. CARDIOMEGALY."
    assert len(report.images) == 2
    assert report.images[0].open().size == (4, 4)
    assert report.attributes == {
        "sex": "F",
        "age": 66.0,
        "race": "White",
        "ethnicity": "Non-Hispanic/Non-Latino",
        "insurance": "Medicare",
        "view": "AP;lateral",
        "official_split": "train",
    }
    reason = "nothing to ask: its report has no findings or impression and no impression"
    assert bad == [Quarantined("chexpert_plus", "patient64541/study1", reason)]


@pytest.mark.parametrize("images", ["{}.png", "{}.jpg", "CheXpert-v1.0-small/{}.jpg"])
def test_findings_are_asked_wherever_the_images_lie(tmp_path: Path, images: str) -> None:
    found, bad = read(write(tmp_path, [ROW, VALID], images=images), questions=("finding",), findings="all")
    assert [(example.topic, example.split) for example in found if example.reference == "yes"] == [
        ("cardiomegaly", "train"),
        ("cardiomegaly", "validation"),
    ]
    assert len(found) == 2 * 13
    assert found[-1].attributes == {"ethnicity": "Non-Hispanic/Non-Latino", "view": "AP", "official_split": "valid"}
    assert not bad


def test_texts_are_read_without_images_and_splits_can_be_drawn(tmp_path: Path) -> None:
    write(tmp_path, [ROW])
    (tmp_path / "PNG").rename(tmp_path / "gone")
    found, _ = read(tmp_path, questions=("report", "impression"), images="none", splits="hash")
    assert [example.turns[0].speaker for example in found] == ["document", "user"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path_to_image": "x.jpg"}, "'path_to_image' is 'x.jpg'"),
        ({"split": "dev"}, "'split' is 'dev'"),
        ({"deid_patient_id": ""}, "'deid_patient_id' is empty"),
        ({"age": "x"}, "'x' is no age"),
        ({}, "is used before"),
    ],
)
def test_malformed_rows_are_set_aside(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    _, bad = read(write(tmp_path, [ROW, ROW | change]), questions=("report",))
    assert (bad[0].source, bad[0].record) == ("chexpert_plus", "df_chexpert_plus_240401.csv:5")
    assert reason in bad[0].reason


def test_missing_images_and_labels_are_named(tmp_path: Path) -> None:
    write(tmp_path, [ROW])
    (tmp_path / "PNG" / ROW["path_to_image"].replace("jpg", "png")).unlink()
    _, bad = read(tmp_path, questions=("report",))
    assert "PNG/train/patient42142/study5/view1_frontal.png' is missing" in bad[0].reason
    (tmp_path / "chexbert_labels" / "impression_fixed.json").unlink()
    with pytest.raises(DataError, match=r"chexbert_labels/impression_fixed\.json, which holds the findings"):
        read(tmp_path)


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected df_chexpert_plus_240401\.csv .*card data/chexpert_plus\.md"):
        read(tmp_path)
