import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mmmed.data.card import read_card
from mmmed.data.observations import ObservationLabels
from mmmed.data.sources.mimic_cxr import MimicCxr
from mmmed.data.study import StudyQuestions
from mmmed.errors import DataError
from mmmed.processing.findings.labeller import OBSERVATIONS
from mmmed.records import Example, Quarantined

METADATA = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate\n"
FILMS = """f-1,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506
f-2,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506
f-3,10000764,57375967,CHEST (PORTABLE AP),AP,3056,2544,21321015
f-4,10000898,50771383,CHEST (PA AND LAT),,3056,2544,21880323
"""
SPLITS = """dicom_id,study_id,subject_id,split
f-1,50414267,10000032,train
f-2,50414267,10000032,train
f-3,57375967,10000764,validate
f-4,50771383,10000898,test
"""
REPORT = """                                 FINAL REPORT
 INDICATION:  ___F with ascites

 FINDINGS:

 There is no focal consolidation,
 and a small left pleural effusion.

 IMPRESSION:

 {impression}
"""


def marks(**labels: str) -> str:
    return ",".join(labels.get(observation.replace(" ", "_"), "") for observation in OBSERVATIONS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three studies as MIMIC-CXR-JPG lays them out, with the reports of MIMIC-CXR beside them."""
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz").write_bytes(gzip.compress((METADATA + FILMS).encode()))
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text(SPLITS)
    rows = [
        f"10000032,50414267,{marks(Pleural_Effusion='1.0', Consolidation='0.0', Edema='-1.0')}",
        f"10000764,57375967,{marks(No_Finding='1.0')}",
    ]
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv").write_text(
        "\n".join([f"subject_id,study_id,{','.join(OBSERVATIONS)}", *rows, ""])
    )
    for line in FILMS.splitlines():
        film, subject, study = line.split(",")[:3]
        folder = tmp_path / "files" / f"p{subject[:2]}" / f"p{subject}"
        (folder / f"s{study}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(folder / f"s{study}" / f"{film}.jpg")
        (folder / f"s{study}.txt").write_text(REPORT.format(impression="Small effusion."))
    (folder / "s50771383.txt").write_text("WET READ: ___\n No change.\n")
    return tmp_path


def read(root: Path, *, reports: str | None = None, hosp: str | None = None, **settings: Any) -> Any:
    labels = settings.pop("labels", ObservationLabels())
    chosen = {name: settings.pop(name) for name in ("splits", "release") if name in settings}
    source = MimicCxr(str(root), reports=reports, hosp=hosp, labels=labels, ask=StudyQuestions(**settings), **chosen)
    records = list(source.records())
    found = [record for record in records if isinstance(record, Example)]
    return found, [record for record in records if isinstance(record, Quarantined)]


def test_a_study_is_asked_for_its_report_with_its_official_split(root: Path) -> None:
    found, bad = read(root, questions=("report", "findings"))
    assert [(example.id, example.patient, example.split) for example in found] == [
        ("s50414267:report", "p10000032", "train"),
        ("s50414267:findings", "p10000032", "train"),
        ("s57375967:report", "p10000764", "validation"),
        ("s57375967:findings", "p10000764", "validation"),
    ]
    assert found[0].reference == (
        "Findings: There is no focal consolidation, and a small left pleural effusion.\nImpression: Small effusion."
    )
    assert [Path(image.name).name for image in found[0].images] == ["f-1.jpg", "f-2.jpg"]
    assert found[0].attributes == {"view": "PA;lateral", "official_split": "train"}
    # A report without the headings is not guessed at.
    assert bad == [
        Quarantined(
            "mimic_cxr", "s50771383", "nothing to ask: its report has no findings or impression and no findings"
        )
    ]


def test_labels_are_asked_by_their_policy(root: Path) -> None:
    found, _ = read(root, questions=("finding",), findings="all", images="each", views=("PA", "AP"))
    answers = {(example.study, example.topic): example.reference for example in found}
    assert answers["s50414267", "pleural effusion"] == "yes"
    assert answers["s50414267", "consolidation"] == answers["s50414267", "fracture"] == "no"
    assert ("s50414267", "edema") not in answers
    assert answers["s57375967", "no finding"] == "yes"
    assert not any(study == "s50771383" for study, _ in answers)
    certain, _ = read(
        root, questions=("finding",), findings="all", labels=ObservationLabels(uncertain="yes", blank="leave out")
    )
    assert [example.topic for example in certain if example.study == "s50414267"] == [
        "edema",
        "consolidation",
        "pleural effusion",
    ]


def test_reports_may_lie_elsewhere_and_are_not_needed_for_labels(root: Path, tmp_path_factory: Any) -> None:
    other = tmp_path_factory.mktemp("mimic-cxr")
    for text in list(root.rglob("s*.txt")):
        moved = other / "mimic-cxr-reports" / text.relative_to(root)
        moved.parent.mkdir(parents=True, exist_ok=True)
        text.rename(moved)
    found, _ = read(root, reports=str(other), questions=("impression",))
    assert len(found) == 2
    with pytest.raises(DataError, match="or ask for findings only"):
        read(root, questions=("impression",))
    assert read(root, questions=("finding",))[0]


def test_people_of_mimic_iv_are_joined(root: Path) -> None:
    hosp = root / "hosp"
    hosp.mkdir()
    (hosp / "patients.csv.gz").write_bytes(
        gzip.compress(b"subject_id,gender,anchor_age,anchor_year\n10000032,F,52,2178\n10000764,M,90,2130\n")
    )
    (hosp / "admissions.csv").write_text(
        "subject_id,hadm_id,race,insurance\n10000032,1,WHITE,Medicaid\n10000032,2,,Medicare\n"
    )
    found, _ = read(root, hosp=str(hosp), questions=("impression",))
    assert found[0].attributes == {
        "sex": "F",
        "age": 54.0,
        "race": "WHITE",
        "insurance": "Medicare",
        "view": "PA;lateral",
        "official_split": "train",
    }
    assert found[1].attributes["age"] == 91.0
    (hosp / "admissions.csv").unlink()
    with pytest.raises(DataError, match="give the folder hosp/ of MIMIC-IV"):
        read(root, hosp=str(hosp))


def test_splits_can_be_drawn_by_patient(root: Path) -> None:
    found, _ = read(root, splits="hash", questions=("finding",))
    assert all(example.attributes["official_split"] in ("train", "validate") for example in found)
    assert len({example.split for example in found if example.patient == "p10000032"}) == 1


@pytest.mark.parametrize(
    ("film", "reason"),
    [
        ("f-9,10000032,50414267,,PA,1,1,21800506", "image 'f-9' has no split among train, validate, test"),
        ("f-1,10000032,50414267,,PA,1,1,21800506", "the identifier 'f-1' is used before"),
        ("f-3,10000032,50414267,,PA,1,1,21800506", "image 'files/p10/p10000032/s50414267/f-3.jpg' is missing"),
        (",10000032,50414267,,PA,1,1,21800506", "'dicom_id' is empty"),
    ],
)
def test_malformed_rows_are_set_aside(root: Path, film: str, reason: str) -> None:
    (root / "mimic-cxr-2.0.0-metadata.csv.gz").write_bytes(gzip.compress(f"{METADATA}{FILMS}{film}\n".encode()))
    _, bad = read(root, questions=("finding",))
    assert reason in next(one.reason for one in bad if one.record.endswith("csv.gz:6"))


def test_a_missing_report_is_set_aside(root: Path) -> None:
    (root / "files" / "p10" / "p10000764" / "s57375967.txt").unlink()
    _, bad = read(root, questions=("impression",))
    assert "report 's57375967.txt' is missing" in bad[0].reason


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected mimic-cxr-2\.0\.0-metadata\.csv or .*card data/mimic_cxr\.md"):
        read(tmp_path)


def as_dicom(root: Path, *, views: dict[str, str]) -> None:
    """Put DICOM files in the place of the JPG files, as MIMIC-CXR lays them out."""
    for number, file in enumerate(sorted(root.rglob("*.jpg"))):
        dataset = FileDataset(str(file), {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.{number}"
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 4, 5, 1
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
        dataset.PixelData = (np.arange(20, dtype="<u2") * 200).tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.ViewPosition = views.get(file.stem, "")
        dataset.save_as(file.with_suffix(".dcm"), enforce_file_format=True)
        file.unlink()


def test_the_dicom_release_is_read_with_the_tables_of_the_other(root: Path) -> None:
    as_dicom(root, views={})
    found, _ = read(root, questions=("report",), release="dicom")
    assert [Path(image.path).name for image in found[0].images] == ["f-1.dcm", "f-2.dcm"]
    assert found[0].attributes == {"view": "PA;lateral", "official_split": "train"}
    pixels = np.asarray(found[0].images[0].open())
    assert pixels.shape == (4, 5)
    assert pixels[0, 0] == 255 > pixels[3, 4]
    _, bad = read(root, questions=("report",))
    assert "f-1.jpg' is missing" in bad[0].reason


def test_the_dicom_release_alone_gives_views_by_its_files_and_splits_by_patient(root: Path) -> None:
    as_dicom(root, views={"f-1": "PA", "f-2": "LL", "f-3": "AP"})
    (root / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    (root / "mimic-cxr-2.0.0-split.csv").unlink()
    lines = ["subject_id,study_id,dicom_id,path"]
    for line in FILMS.splitlines():
        film, subject, study = line.split(",")[:3]
        lines.append(f"{subject},{study},{film},files/p10/p{subject}/s{study}/{film}.dcm")
    (root / "cxr-record-list.csv.gz").write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    found, _ = read(root, questions=("report",), release="dicom", splits="hash")
    assert [(one.study, one.attributes) for one in found] == [
        ("s50414267", {"view": "PA;lateral"}),
        ("s57375967", {"view": "AP"}),
    ]
    with pytest.raises(DataError, match=r"expected mimic-cxr-2\.0\.0-split\.csv"):
        read(root, questions=("report",), release="dicom")


def test_the_card_forbids_sharing() -> None:
    assert any("share" in what or "sharing" in what for what in read_card("mimic_cxr").forbids)
