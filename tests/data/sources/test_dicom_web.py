"""An archive is asked through DICOMweb: a real Orthanc server gives back what was put into it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from mmmed.data import dicomweb
from mmmed.data.card import read_card
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.gate import Gate
from mmmed.data.deidentify.privacy import Privacy, guarded
from mmmed.data.sources import dicom_web
from mmmed.data.sources.dicom_folder import DicomFolder
from mmmed.data.sources.dicom_web import DicomWeb
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined
from tests.orthanc import PASSWORD, USER, running_orthanc


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A running Orthanc with nothing in it."""
    with running_orthanc() as url:
        yield url


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dicomweb.USER, USER)
    monkeypatch.setenv(dicomweb.PASSWORD, PASSWORD)


@pytest.fixture(scope="module")
def archive(server: str, shared_data: Path) -> str:
    """The server with all objects of the development data in it."""
    for path in sorted((shared_data / "13_dicom").rglob("*.dcm")):
        answer = requests.post(f"{server}/instances", data=path.read_bytes(), auth=(USER, PASSWORD), timeout=60)
        assert answer.ok, (path, answer.text)
    return f"{server}/dicom-web"


def examples(source: DicomFolder | DicomWeb) -> dict[str, Example]:
    found = list(source.records())
    assert not [one for one in found if isinstance(one, Quarantined)]
    return {one.id: one for one in found if isinstance(one, Example)}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.usefixtures("signed_in")
def test_every_object_comes_back_with_the_pixels_of_its_file(archive: str, shared_data: Path, tmp_path: Path) -> None:
    remote = DicomWeb(archive, str(tmp_path / "kept"), slices=2)
    remote.prepare()
    local = examples(DicomFolder(str(shared_data / "13_dicom"), slices=2))
    fetched = examples(remote)
    assert fetched.keys() == local.keys()
    assert len(list((tmp_path / "kept").rglob("*.dcm"))) == 15
    for name, example in local.items():
        other = fetched[name]
        assert (other.patient, other.split, other.turns) == (example.patient, example.split, example.turns)
        assert other.attributes == example.attributes
        assert other.source == "dicom_web"
        for image, twin in zip(example.images, other.images, strict=True):
            assert np.array_equal(np.asarray(image.open()), np.asarray(twin.open())), name


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.usefixtures("signed_in")
def test_a_search_fetches_what_matches_and_nothing_twice(archive: str, tmp_path: Path) -> None:
    source = DicomWeb(archive, str(tmp_path), studies={"PatientID": "20551396"}, series={"Modality": "CR"})
    source.prepare()
    (file,) = tmp_path.rglob("*.dcm")
    before = file.stat().st_mtime_ns
    source.prepare()
    assert file.stat().st_mtime_ns == before
    (example,) = source.records()
    assert isinstance(example, Example)
    assert example.patient == "20551396"
    with pytest.raises(DataError, match="nothing that matches"):
        DicomWeb(archive, str(tmp_path), studies={"PatientID": "20551396"}, series={"Modality": "MR"}).prepare()


@pytest.mark.slow
def test_a_server_that_refuses_or_knows_nothing_is_one_line(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dicomweb.USER, USER)
    monkeypatch.setenv(dicomweb.PASSWORD, "another")
    with pytest.raises(DataError, match=r"status 401; set MMMED_DICOMWEB_USER and MMMED_DICOMWEB_PASSWORD"):
        DicomWeb(f"{server}/dicom-web", str(tmp_path)).prepare()
    monkeypatch.setenv(dicomweb.PASSWORD, PASSWORD)
    with pytest.raises(DataError, match="status 404; check the url"):
        DicomWeb(f"{server}/nowhere", str(tmp_path)).prepare()
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_away_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/dicom-web"
        with pytest.raises(DataError, match=r"does not answer \(ConnectionError\); check the url") as told:
            DicomWeb(url, str(tmp_path)).prepare()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("archive.example.org", "is none of a DICOMweb server; expected https://HOST/PATH"),
        ("https://anna:secret@archive.example.org/dicom-web", "holds a password; take it out and set"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused_without_quoting_a_password(
    url: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=complaint) as told:
        DicomWeb(url, str(tmp_path)).prepare()
    assert "secret" not in str(told.value)


def test_an_answer_cannot_name_a_file_outside_of_the_folder() -> None:
    for uid in ("../../etc/passwd", "..", "", "1.2/3"):
        with pytest.raises(ValueError, match="without a usable UID"):
            dicom_web._uid({"00080018": {"Value": [uid]}}, "00080018")
    assert dicom_web._uid({"00080018": {"Value": ["1.2.3"]}}, "00080018") == "1.2.3"


def test_the_privacy_gate_stands_before_the_archive(tmp_path: Path) -> None:
    assert not read_card("dicom_web").deidentified
    (source,) = guarded([DicomWeb("https://archive.example.org", str(tmp_path))], Privacy(), Audit())
    assert isinstance(source, Gate)
