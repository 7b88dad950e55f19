"""A real Orthanc server for tests.

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
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

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


@contextmanager
def running_orthanc() -> Iterator[str]:
    """A server with nothing in it; skips the test where it cannot run."""
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
