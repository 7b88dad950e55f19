import csv
import gzip
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmmed.data.sources.padchest import PadChest
from mmmed.data.study import StudyQuestions
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

NAME = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
ROW = {
    "": "0",
    "ImageID": "1_a.png",
    "ImageDir": "0",
    "StudyDate_DICOM": "20140915",
    "StudyID": "1",
    "PatientID": "83986",
    "PatientBirth": "1930.0",
    "PatientSex_DICOM": "M",
    "Projection": "PA",
    "Pediatric": "No",
    "Report": "cardiomegalia . resto sin hallazgos .",
    "MethodLabel": "Physician",
    "Labels": "['cardiomegaly', ' unchanged', 'cardiomegaly']",
}
LATERAL = ROW | {"ImageID": "1_b.png", "Projection": "L"}
NORMAL = ROW | {
    "ImageID": "2_a.png",
    "ImageDir": "1.0",
    "StudyID": "2",
    "PatientID": "5",
    "PatientSex_DICOM": "",
    "PatientBirth": "",
    "Report": "sin hallazgos patologicos .",
    "MethodLabel": "RNN_model",
    "Labels": "['normal']",
}


def write(root: Path, rows: list[dict[str, str]], *, folder: str = "{ImageDir}") -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, ROW)
    writer.writeheader()
    writer.writerows(rows)
    (root / f"{NAME}.gz").write_bytes(gzip.compress(text.getvalue().encode()))
    for row in rows:
        path = root / folder.format(ImageDir=row["ImageDir"].removesuffix(".0"))
        path.mkdir(exist_ok=True)
        # The release holds 16-bit PNG.
        Image.fromarray(np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000).save(path / row["ImageID"])
    return root


def read(root: Path, *, physicians: bool = False, **settings: Any) -> tuple[list[Example], list[Quarantined]]:
    records = list(PadChest(str(root), physicians=physicians, ask=StudyQuestions(**settings)).records())
    found = [record for record in records if isinstance(record, Example)]
    return found, [record for record in records if isinstance(record, Quarantined)]


@pytest.mark.parametrize("folder", ["{ImageDir}", "images"])
def test_spanish_reports_are_asked_for_in_spanish(tmp_path: Path, folder: str) -> None:
    found, bad = read(write(tmp_path, [ROW, LATERAL, NORMAL], folder=folder), questions=("report",))
    report, normal = found
    assert report.question == "Write the report of these chest radiographs. Answer in Spanish."
    assert report.reference == "cardiomegalia . resto sin hallazgos ."
    assert report.attributes == {
        "sex": "M",
        "age": 84.0,
        "view": "PA;lateral",
        "findings": "cardiomegaly",
        "labelled_by": "Physician",
        "pediatric": "No",
    }
    assert "age" not in normal.attributes and "sex" not in normal.attributes
    assert np.asarray(report.images[0].open()).max() == 255
    assert not bad


def test_labels_are_asked_and_remarks_are_no_findings(tmp_path: Path) -> None:
    both = NORMAL | {"ImageID": "3_a.png", "StudyID": "3", "PatientID": "6", "Labels": "['normal', 'scoliosis']"}
    found, _ = read(write(tmp_path, [ROW, NORMAL, both]), questions=("finding",), findings="all")
    answers = {(example.study, example.topic): example.reference for example in found}
    assert Counter(topic for _, topic in answers) == {"no finding": 3, "cardiomegaly": 3, "scoliosis": 3}
    assert {key for key, answer in answers.items() if answer == "yes"} == {
        ("1", "cardiomegaly"),
        ("2", "no finding"),
        ("3", "scoliosis"),
    }


def test_labels_of_the_network_can_be_left_out(tmp_path: Path) -> None:
    unlabelled = NORMAL | {"ImageID": "3_a.png", "StudyID": "3", "Labels": ""}
    root = write(tmp_path, [ROW, NORMAL, unlabelled])
    found, bad = read(root, physicians=True, questions=("finding",), findings="all")
    assert {example.study for example in found} == {"1"}
    assert [(one.record, one.reason) for one in bad] == [
        ("2", "nothing to ask: its report has no label"),
        ("3", "nothing to ask: its report has no label"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Projection": "EXCLUDE"}, "is 'EXCLUDE': its publishers hold it to be no chest film"),
        ({"Labels": "normal"}, "'Labels' is 'normal'; expected a list"),
        ({"Labels": "[1]"}, "expected a list such as ['normal']"),
        ({"ImageDir": "7"}, "is missing"),
        ({"PatientID": ""}, "'PatientID' is empty"),
        ({"PatientID": "6"}, "belongs to"),
    ],
)
def test_malformed_rows_are_set_aside(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    write(tmp_path, [ROW, LATERAL | change])
    if change == {"ImageDir": "7"}:
        (tmp_path / "7" / "1_b.png").unlink()
    _, bad = read(tmp_path, questions=("report",))
    assert (bad[0].source, bad[0].record) == ("padchest", f"{NAME}.gz:3")
    assert reason in bad[0].reason


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected PADCHEST_chest_x_ray_.*card data/padchest\.md"):
        read(tmp_path)
