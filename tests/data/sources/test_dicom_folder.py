"""A folder of DICOM files becomes examples, with or without a table of answers."""

import csv
from pathlib import Path

import pytest

from mmmed.data.card import read_card
from mmmed.data.sources.dicom_folder import DicomFolder
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.processing.dicom import read_dataset
from mmmed.records import Example, Quarantined

pytestmark = pytest.mark.shared


@pytest.fixture
def root(shared_data: Path) -> Path:
    return shared_data / "13_dicom" / "constructed_phi"


def write(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_without_a_table_every_series_is_described(root: Path) -> None:
    found = list(DicomFolder(str(root)).records())
    examples = [one for one in found if isinstance(one, Example)]
    assert len(found) == len(examples) == 6
    check_disjoint(examples)
    first = examples[0]
    assert (first.patient, first.reference, first.question) == ("20551396", "", "Describe this image.")
    assert first.attributes == {"modality": "CR", "body_part": "CHEST", "view": "PA", "sex": "F", "age": 61.0}
    assert first.images[0].open().size == (384, 384)
    assert not read_card("dicom_folder").deidentified


def test_a_table_asks_about_instances_series_and_studies(root: Path, tmp_path: Path) -> None:
    headers = [read_dataset(root / f"cxr_phi_{number}.dcm", pixels=False) for number in range(3)]
    empty = dict.fromkeys(("instance", "series", "study", "question", "answer", "options"), "")
    rows = [
        empty | {"instance": headers[0].SOPInstanceUID, "answer": "no", "question": "Effusion?", "options": "yes|no"},
        empty | {"series": headers[1].SeriesInstanceUID, "answer": "Clear lungs."},
        empty | {"study": headers[2].StudyInstanceUID, "answer": "left", "question": "Which side?"},
        empty | {"study": "1.2.3", "answer": "left"},
        empty | {"answer": "left"},
    ]
    *good, unknown, without = DicomFolder(str(root), table=write(tmp_path / "t.csv", rows)).records()
    assert [(one.topic, one.reference, len(one.images)) for one in good if isinstance(one, Example)] == [
        ("closed", "no", 1),
        ("report", "Clear lungs.", 1),
        ("open", "left", 1),
    ]
    assert isinstance(unknown, Quarantined)
    assert "no readable object has the study UID '1.2.3'" in unknown.reason
    assert isinstance(without, Quarantined)
    assert "is filled" in without.reason


def test_a_broken_file_is_set_aside_with_its_name(root: Path, tmp_path: Path) -> None:
    (tmp_path / "good.dcm").write_bytes((root / "cxr_phi_0.dcm").read_bytes())
    (tmp_path / "bad.dcm").write_bytes((root / "cxr_phi_1.dcm").read_bytes()[:400])
    bad, good = DicomFolder(str(tmp_path)).records()
    assert isinstance(bad, Quarantined)
    assert bad.record == "bad.dcm"
    assert isinstance(good, Example)


def test_a_table_without_its_columns_is_one_line(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected 'answer' and one of 'instance', 'series', 'study'"):
        list(DicomFolder(str(root), table=write(tmp_path / "t.csv", [{"answer": "x"}])).records())
    with pytest.raises(DataError, match="there is no table"):
        list(DicomFolder(str(root), table=str(tmp_path / "none.csv")).records())
