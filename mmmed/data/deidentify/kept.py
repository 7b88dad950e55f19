"""What was found in pictures that were read before: boxes by the hash of the pixels, in one small file on disk.

Reading a picture takes about a second, and a training run opens each of them in every epoch and in several processes.
"""

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mmmed.models.weights import cache_folder

Rectangle = tuple[int, int, int, int]

_PATIENCE = 30.0
"""Seconds to wait for another process that writes."""


def kept_boxes(digest: str) -> list[Rectangle] | None:
    """Boxes of a picture by its digest; None where it was not read yet, or the file cannot be used."""
    try:
        with closing(_connect()) as file:
            row = file.execute("SELECT boxes FROM masks WHERE picture = ?", (digest,)).fetchone()
            return None if row is None else [_rectangle(box) for box in json.loads(row[0])]
    except (OSError, sqlite3.Error, ValueError, TypeError):
        return None  # not whole: it is read again


def keep_boxes(digest: str, boxes: Sequence[Rectangle]) -> None:
    """Keep the boxes of a picture; where that fails, only time is lost."""
    try:
        with closing(_connect()) as file, file:
            file.execute("INSERT OR REPLACE INTO masks VALUES (?, ?)", (digest, json.dumps([[*box] for box in boxes])))
    except (OSError, sqlite3.Error):
        return


def _place() -> Path:
    return cache_folder() / "masks.sqlite"


def _connect() -> sqlite3.Connection:
    path = _place()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # It says in which pictures there is text, which is nobody else's business.
        os.close(os.open(path, os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=_PATIENCE)
    connection.execute("CREATE TABLE IF NOT EXISTS masks (picture TEXT PRIMARY KEY, boxes TEXT NOT NULL)")
    return connection


def _rectangle(box: Sequence[object]) -> Rectangle:
    left, top, right, bottom = (int(str(edge)) for edge in box)
    return left, top, right, bottom
