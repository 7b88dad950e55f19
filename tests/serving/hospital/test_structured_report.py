"""A report is a DICOM object that says who wrote it, who signed it, and what it replaces."""

import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from mmmed.errors import SignoffError
from mmmed.serving.desk.desk import Desk
from mmmed.serving.hospital.header import header_of
from mmmed.serving.hospital.result import result_of
from mmmed.serving.hospital.structured_report import structured_report

from ..desk.conftest import request
from .conftest import ANNA, BETTER, TEXT, film


def texts(report: Dataset) -> list[str]:
    return [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]


def test_a_preliminary_report_is_unverified_and_says_what_wrote_it(
    make_desk: Callable[..., Desk], hand_in: Callable[..., str]
) -> None:
    desk = make_desk(preliminary=True)
    report = structured_report(result_of(desk, hand_in(desk), "preliminary"))
    assert (report.VerificationFlag, report.PreliminaryFlag, report.CompletionFlag) == (
        "UNVERIFIED",
        "PRELIMINARY",
        "PARTIAL",
    )
    assert TEXT in texts(report)
    assert any("machine-learning model; not read by a person" in text for text in texts(report))
    assert "quickstart" in str(report)
    assert "Arzt" not in str(report)


def test_a_final_report_is_verified_by_its_signers_and_replaces_the_preliminary_one(
    make_desk: Callable[..., Desk], hand_in: Callable[..., str], sign: Callable[[Desk, str], None]
) -> None:
    desk = make_desk(preliminary=True, two_people=True)
    id = hand_in(desk)
    preliminary = structured_report(result_of(desk, id, "preliminary"))
    sign(desk, id)
    report = structured_report(result_of(desk, id, "final"))
    assert (report.VerificationFlag, report.PreliminaryFlag, report.CompletionFlag) == ("VERIFIED", "FINAL", "COMPLETE")
    assert [str(item.VerifyingObserverName) for item in report.VerifyingObserverSequence] == ["Arzt^Anna", "Berg^Bert"]
    assert BETTER in texts(report)
    assert TEXT not in texts(report)
    (study,) = report.PredecessorDocumentsSequence
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == (
        preliminary.SOPInstanceUID
    )
    assert (report.PatientID, report.StudyInstanceUID, report.AccessionNumber) == ("P-17", "2.25.1", "A-42")
    assert (report.ContentDate, report.ContentTime) == ("20260301", "120300.000000")


def test_made_again_it_is_the_same_object(
    make_desk: Callable[..., Desk], hand_in: Callable[..., str], sign: Callable[[Desk, str], None]
) -> None:
    desk = make_desk()
    id = hand_in(desk)
    sign(desk, id)
    first, second = (structured_report(result_of(desk, id, "final")) for _ in range(2))
    assert first == second


def test_what_was_rejected_or_is_open_cannot_be_written(
    make_desk: Callable[..., Desk], hand_in: Callable[..., str]
) -> None:
    desk = make_desk()
    id = hand_in(desk)
    with pytest.raises(SignoffError, match="is draft and may not leave as final"):
        result_of(desk, id, "final")
    desk.take(id, by=ANNA, request=request())
    desk.reject(id, "wrong side", by=ANNA, request=request())
    for kind in ("final", "preliminary"):
        with pytest.raises(SignoffError, match="is rejected and may not leave"):
            result_of(desk, id, kind)
    with pytest.raises(SignoffError, match="called back has no report"):
        structured_report(result_of(desk, id, "withdrawn"))


def test_a_draft_without_a_dicom_object_has_no_report(
    make_desk: Callable[..., Desk], hand_in: Callable[..., str]
) -> None:
    desk = make_desk(preliminary=True)
    with pytest.raises(SignoffError, match="comes from no DICOM object"):
        structured_report(result_of(desk, hand_in(desk, dicom=False), "preliminary"))


def test_of_an_object_only_what_a_report_needs_is_kept() -> None:
    kept = pydicom.dcmread(BytesIO(header_of(film())))
    assert kept.PatientID == "P-17"
    assert "OperatorsName" not in kept
    del (bare := film()).PatientBirthDate
    assert pydicom.dcmread(BytesIO(header_of(bare))).PatientBirthDate in ("", None)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="Debian's package dicom3tools is not installed")
@pytest.mark.parametrize("two_people", [False, True])
def test_the_standards_checker_finds_no_error(
    make_desk: Callable[..., Desk],
    hand_in: Callable[..., str],
    sign: Callable[[Desk, str], None],
    two_people: bool,
    tmp_path: Path,
) -> None:
    desk = make_desk(preliminary=True, two_people=two_people)
    id = hand_in(desk)
    reports = {"preliminary": structured_report(result_of(desk, id, "preliminary"))}
    sign(desk, id)
    reports["final"] = structured_report(result_of(desk, id, "final"))
    for kind, report in reports.items():
        report.save_as(tmp_path / kind, enforce_file_format=True)
        told = subprocess.run(["dciodvfy", "-new", tmp_path / kind], capture_output=True, text=True).stderr
        assert "EnhancedSR" in told
        assert not [line for line in told.splitlines() if line.startswith("Error")]
