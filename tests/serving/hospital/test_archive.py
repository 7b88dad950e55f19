"""Reports are stored into a real Orthanc and read back from it."""

from collections.abc import Callable, Iterator

import pytest
from dicomweb_client.web import DICOMwebClient
from requests import Session

from mmmed.data import dicomweb
from mmmed.serving.desk.desk import Desk
from mmmed.serving.hospital.archive import Archive
from mmmed.serving.hospital.delivery import Courier
from mmmed.serving.hospital.result import result_of
from tests.orthanc import PASSWORD, USER, running_orthanc

from ..desk.conftest import request
from .conftest import ANNA, BETTER


@pytest.fixture(scope="module")
def archive() -> Iterator[str]:
    with running_orthanc() as url:
        yield f"{url}/dicom-web"


@pytest.fixture
def client(archive: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DICOMwebClient]:
    monkeypatch.setenv(dicomweb.USER, USER)
    monkeypatch.setenv(dicomweb.PASSWORD, PASSWORD)
    with Session() as session:
        session.auth = (USER, PASSWORD)
        yield DICOMwebClient(archive, session=session)


@pytest.mark.slow
def test_a_signed_report_is_in_the_archive_once(
    archive: str,
    client: DICOMwebClient,
    make_desk: Callable[..., Desk],
    hand_in: Callable[..., str],
    sign: Callable[[Desk, str], None],
) -> None:
    desk = make_desk(preliminary=True, destinations=("dicom",))
    id = hand_in(desk)
    courier = Courier(desk, {"dicom": Archive(archive)})
    assert courier.deliver() == 1
    sign(desk, id)
    assert courier.deliver() == 1
    Archive(archive).send(result_of(desk, id, "final"))
    found = {one.SOPInstanceUID: one for one in client.retrieve_study("2.25.1")}
    assert len(found) == 2
    report = found[result_of(desk, id, "final").uid("final")]
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("VERIFIED", "FINAL")
    assert str(report.VerifyingObserverSequence[0].VerifyingObserverName) == "Arzt^Anna"
    assert BETTER in [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]


@pytest.mark.slow
def test_a_preliminary_report_is_rejected_by_a_note(
    archive: str, client: DICOMwebClient, make_desk: Callable[..., Desk], hand_in: Callable[..., str]
) -> None:
    desk = make_desk(preliminary=True, destinations=("dicom",))
    id = hand_in(desk)
    courier = Courier(desk, {"dicom": Archive(archive)})
    assert courier.deliver() == 1
    desk.take(id, by=ANNA, request=request())
    desk.reject(id, "wrong side", by=ANNA, request=request())
    assert courier.deliver() == 1
    result = result_of(desk, id, "withdrawn")
    found = {one.SOPInstanceUID: one for one in client.retrieve_study("2.25.1")}
    note = found[result.uid("withdrawn")]
    assert note.Modality == "KO"
    referred = note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert referred.ReferencedSOPInstanceUID == result.uid("preliminary")
