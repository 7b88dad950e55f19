"""Files that stand in their place when all of them is on the disk, and not before."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from mmmed.errors import OutputError


def replace_file(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Put a file in the place of another at once, when it is on the disk.

    Args:
        path: The file.
        write: Writes its content.

    Raises:
        OutputError: It cannot be written; the other file still stands there.
    """
    partial_path = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_path.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial_path.replace(path)
        sync_folder(path.parent)
    # torch's archive writer gives a failed write back as a RuntimeError.
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            partial_path.unlink()
        raise OutputError(
            f"cannot write checkpoint {path}: {_reason(error)}; the one before is kept; free space and resume from it"
        ) from error


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk, as the content of its files has."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: BaseException) -> str:
    """What the system says of a failed write, wherever in the chain of errors it stands."""
    known: BaseException | None = error
    while known is not None:
        if isinstance(known, OSError) and known.strerror:
            return known.strerror
        known = known.__cause__ or known.__context__
    return str(error).partition("\n")[0]
