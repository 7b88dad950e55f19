"""Medplum's FHIR server in a process of its own; `MMMED_FHIR_SERVER` names the folder it was installed in."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = "MMMED_FHIR_SERVER"
MISSING = f"needs node and, in the folder that {PACKAGES} names, the packages of fhir_server.cjs"


@contextmanager
def running_fhir() -> Iterator[str]:
    """Address of the running server; nothing where it is not installed."""
    folder = os.environ.get(PACKAGES, "")
    if not folder or shutil.which("node") is None:
        yield ""
        return
    script = Path(__file__).parent / "fhir_server.cjs"
    process = subprocess.Popen(["node", script, Path(folder).resolve()], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
