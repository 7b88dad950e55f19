"""Text files that are written whole or not at all."""

import contextlib
import os
from pathlib import Path

from mmmed.errors import OutputError


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        OutputError: The folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose a place that can be written to"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
