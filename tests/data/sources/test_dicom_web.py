"""An archive is asked through DICOMweb: a real Orthanc server gives back what was put into it.

Debian's Orthanc listens to the whole network whatever its configuration says, so it runs in a network of its own and
is reached through a socket file.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from mmmed.data.card import read_card
from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.gate import Gate
from mmmed.data.deidentify.privacy import Privacy, guarded
from mmmed.data.sources import dicom_web
from mmmed.data.sources.dicom_folder import DicomFolder
from mmmed.data.sources.dicom_web import DicomWeb
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "a password of this test"
STARTUP = 120.0

FORWARD = """
import socket, threading

def pump(origin, target):
    try:
        while data := origin.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def join(origin, target):
    with origin, target:
        back = threading.Thread(target=pump, args=(target, origin), daemon=True)
        back.start()
        pump(origin, target)
        back.join()

def forward(listening, connect):
    while True:
        try:
            origin, _ = listening.accept()
        except OSError:
            return
        try:
            target = connect()
        except OSError:  # the server does not listen yet
            origin.close()
            continue
        threading.Thread(target=join, args=(origin, target), daemon=True).start()
"""
INSIDE = (
    FORWARD
    + """
import os, subprocess, sys
configuration, door, port = sys.argv[1:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listening = socket.socket(socket.AF_UNIX)
listening.bind(door)
listening.listen()
connect = lambda: socket.create_connection(("127.0.0.1", int(port)))
threading.Thread(target=forward, args=(listening, connect), daemon=True).start()
server = subprocess.Popen(["Orthanc", configuration])
sys.stdin.read()  # ends when the test does, however it ends
server.terminate()
server.wait()
"""
)


def unusable() -> str:
    """Why no server can be started here; nothing where it can."""
    if shutil.which("Orthanc") is None or not PLUGIN.is_file():
        return "Debian's packages orthanc and orthanc-dicomweb are not installed"
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "unshare and ip are needed for a network of the server's own"
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        return "this user may not make a network of the server's own"
    return ""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A running Orthanc with nothing in it."""
    if reason := unusable():
        pytest.skip(reason)
    names: dict[str, object] = {}
    exec(FORWARD, names)
    with tempfile.TemporaryDirectory(prefix="orthanc") as folder, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        door = f"{folder}/door"
        configuration = {
            "Name": "test",
            "StorageDirectory": f"{folder}/storage",
            "IndexDirectory": f"{folder}/index",
            "HttpPort": port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        Path(folder, "orthanc.json").write_text(json.dumps(configuration))
        log = Path(folder, "log")
        with log.open("w") as output:
            inside = subprocess.Popen(
                ["unshare", "-rn", sys.executable, "-c", INSIDE, f"{folder}/orthanc.json", door, str(port)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )

        def connect() -> socket.socket:
            target = socket.socket(socket.AF_UNIX)
            try:
                target.connect(door)
            except OSError:
                target.close()
                raise
            return target

        threading.Thread(target=names["forward"], args=(listening, connect), daemon=True).start()  # type: ignore[arg-type]
        try:
            wait_for(f"http://127.0.0.1:{port}/system", Path(door), log=log)
            yield f"http://127.0.0.1:{port}"
        finally:
            assert inside.stdin is not None
            inside.stdin.close()
            inside.wait(timeout=60)


def wait_for(url: str, door: Path, *, log: Path) -> None:
    until = time.monotonic() + STARTUP
    while time.monotonic() < until:
        try:
            if door.exists() and requests.get(url, auth=(USER, PASSWORD), timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise AssertionError(f"Orthanc did not start: {log.read_text()[-2000:]}")


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dicom_web.USER, USER)
    monkeypatch.setenv(dicom_web.PASSWORD, PASSWORD)


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
    monkeypatch.setenv(dicom_web.USER, USER)
    monkeypatch.setenv(dicom_web.PASSWORD, "another")
    with pytest.raises(DataError, match=r"status 401; set MMMED_DICOMWEB_USER and MMMED_DICOMWEB_PASSWORD"):
        DicomWeb(f"{server}/dicom-web", str(tmp_path)).prepare()
    monkeypatch.setenv(dicom_web.PASSWORD, PASSWORD)
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
