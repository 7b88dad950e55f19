"""The whole round with a real Orthanc: a film in the archive becomes a draft, is signed, and its report is there."""

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.web import DICOMwebClient
from requests import Session as Requests

from mmmed.cli.main import main
from mmmed.inference.session import Session
from mmmed.serving.database.engine import open_database
from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.hospital.archive import Archive
from mmmed.serving.hospital.delivery import Courier
from mmmed.serving.hospital.fhir import fhir_bundle
from mmmed.serving.hospital.result import result_of
from mmmed.serving.monitoring.record import read_log
from mmmed.serving.monitoring.signed_log import SignedLog
from tests.orthanc import PASSWORD, USER

from ..conftest import PEOPLE
from ..desk.conftest import request
from .test_intake import write

_, ANNA, _, _ = PEOPLE
FILM = "2.25.31"
SIGNED = "Small left pleural effusion."


@pytest.fixture
def take_in(
    archive: str, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """Runs `mmmed signoff intake` once over the archive, and gives what it prints."""
    monkeypatch.setattr("mmmed.inference.session.open_session", lambda checkpoint: session)
    command = ["signoff", "intake", "--once", "--checkpoint", "tiny", "--folder", str(tmp_path / "in")]
    command += ["--archive", archive, "--study_date", "20260301", "--question", "Is there a pleural effusion?"]
    command += ["--database", f"sqlite:///{tmp_path}/mmmed.sqlite", "--log", str(tmp_path / "studies.jsonl")]
    command += ["--harm", str(Path(__file__).parents[3] / "configs" / "harm" / "chest.yaml")]

    def run() -> str:
        assert main(command) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_from_the_archive_to_a_signed_report_in_it(archive: str, take_in: Callable[[], str], tmp_path: Path) -> None:
    with Requests() as signed_in:
        signed_in.auth = (USER, PASSWORD)
        client = DICOMwebClient(archive, session=signed_in)
        client.store_instances([pydicom.dcmread(write(tmp_path / "out", "film.dcm", FILM))])
        assert "1 new drafts" in take_in()
        engine = open_database(f"sqlite:///{tmp_path}/mmmed.sqlite")
        desk = Desk(engine, rules=Rules(destinations=("dicom", "fhir", "log")))
        (one,) = desk.queue()
        assert one.priority > 0
        desk.take(one.id, by=ANNA, request=request())
        desk.amend(one.id, SIGNED, by=ANNA, request=request())
        desk.sign(one.id, by=ANNA, request=request())
        log = tmp_path / "studies.jsonl"
        assert Courier(desk, {"dicom": Archive(archive), "log": SignedLog(log)}).deliver() == 2
        result = result_of(desk, one.id, "final")
        found = {str(each.SOPInstanceUID): each for each in client.retrieve_study("2.25.1")}
        assert found.keys() == {FILM, result.uid("final")}
        report = found[result.uid("final")]
        assert (report.VerificationFlag, str(report.PatientID)) == ("VERIFIED", "P-17")
        assert SIGNED in [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]
        evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        assert [each.ReferencedSOPInstanceUID for each in evidence.ReferencedSOPSequence] == [FILM]
        assert "0 new drafts; passed over: 1 no image of a study" in take_in(), "its own report is no film"
        (study,), (signed,) = read_log(log).studies, read_log(log).signed
        assert study.study == signed.study and signed.findings == {"effusion": "stated"}
        final = [each["resource"] for each in fhir_bundle(result)["entry"]]
        (diagnosis,) = [each for each in final if each["resourceType"] == "DiagnosticReport"]
        assert (diagnosis["status"], diagnosis["conclusion"]) == ("final", SIGNED)
        engine.dispose()
