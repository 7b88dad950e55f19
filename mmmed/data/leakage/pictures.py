"""Thumbnails and fingerprints of pictures, made once and kept: all later steps work from these alone.

Letters in array names: N pictures, S side of a thumbnail.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from mmmed.errors import ImageError, OutputError
from mmmed.records import LazyImage

SIDE = 64
"""Side of a thumbnail in pixels: enough to tell two patients' films apart, 400 MB for 100,000 pictures."""

_FORMAT = b"1"
_SAVE_EVERY = 10_000


class Thumbnails(NamedTuple):
    """What is kept of pictures.

    Args:
        brightness_NSS: The whole picture drawn into a square, 0 to 255.
        content_N32: SHA-256 of size, mode and decoded pixels.
        is_readable_N: Whether the picture could be decoded; the others' rows hold zeros.
        reasons: Why not, by the picture's name.
    """

    brightness_NSS: NDArray[np.uint8]
    content_N32: NDArray[np.uint8]
    is_readable_N: NDArray[np.bool_]
    reasons: dict[str, str]


def thumbnail(picture: Image.Image) -> NDArray[np.uint8]:
    """Brightness (S, S) of a decoded picture, whatever its proportions."""
    return np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def fingerprint(picture: Image.Image) -> bytes:
    """SHA-256 of what a decoded picture shows: the same for two files that hold the same pixels."""
    # Grey pixels saved as colour are the same picture.
    channels = picture.split()
    is_grey = picture.mode == "RGB" and channels[0].tobytes() == channels[1].tobytes() == channels[2].tobytes()
    shown = channels[0] if is_grey else picture
    return hashlib.sha256(f"{shown.mode} {shown.size} ".encode() + shown.tobytes()).digest()


def thumbnails(images: Sequence[LazyImage], *, cache: Path | None = None) -> Thumbnails:
    """Thumbnails of pictures, from the cache where it has them.

    A picture is known again by its name and by size and time of its file; without a file it is made anew.

    Args:
        images: The pictures.
        cache: File to keep them in; None keeps nothing.

    Raises:
        OutputError: The cache cannot be written.
    """
    known = _read(cache)
    made = Thumbnails(
        np.zeros((len(images), SIDE, SIDE), np.uint8),
        np.zeros((len(images), 32), np.uint8),
        np.zeros(len(images), np.bool_),
        {},
    )
    keys = [_key(image) for image in images]
    fresh = 0
    for place, image in enumerate(tqdm(images, desc="thumbnails", unit="picture", disable=None)):
        key = keys[place]
        if key in known.rows:
            row = known.rows[key]
            made.brightness_NSS[place], made.content_N32[place] = known.brightness_NSS[row], known.content_N32[row]
            made.is_readable_N[place] = True
            continue
        try:
            picture = image.open()
        except ImageError as error:
            made.reasons[image.name] = str(error)
            continue
        made.brightness_NSS[place] = thumbnail(picture)
        made.content_N32[place] = np.frombuffer(fingerprint(picture), np.uint8)
        made.is_readable_N[place] = True
        fresh += 1
        if cache is not None and fresh % _SAVE_EVERY == 0:
            _write(cache, made, keys)
    if cache is not None and fresh:
        _write(cache, made, keys)
    return made


class _Known(NamedTuple):
    rows: dict[bytes, int]
    brightness_NSS: NDArray[np.uint8]
    content_N32: NDArray[np.uint8]


def _key(image: LazyImage) -> bytes:
    """What a picture is known again by; nothing where its file is not known."""
    path: Any = getattr(image, "path", None)
    if not isinstance(path, Path):
        return b""
    try:
        status = path.stat()
    except OSError:
        return b""
    text = f"{image.name}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(_FORMAT + text.encode("utf-8", "surrogateescape")).digest()


def _read(cache: Path | None) -> _Known:
    if cache is not None and cache.is_file():
        # A cache that cannot be read is made anew: nothing is in it that the pictures do not hold.
        with contextlib.suppress(OSError, SafetensorError, KeyError):
            arrays = load_file(cache)
            rows = {bytes(key): row for row, key in enumerate(arrays["key"])}
            if arrays["brightness"].shape[1:] == (SIDE, SIDE):
                return _Known(rows, arrays["brightness"], arrays["content"])
    return _Known({}, np.zeros((0, SIDE, SIDE), np.uint8), np.zeros((0, 32), np.uint8))


def _write(cache: Path, made: Thumbnails, keys: Sequence[bytes]) -> None:
    kept = [place for place, key in enumerate(keys) if key and made.is_readable_N[place]]
    if not kept:
        return
    arrays = {
        "brightness": made.brightness_NSS[kept],
        "content": made.content_N32[kept],
        "key": np.stack([np.frombuffer(keys[place], np.uint8) for place in kept]),
    }
    temporary = cache.with_name(f".{cache.name}.{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_file(arrays, temporary)
        temporary.replace(cache)
    except OSError as error:
        raise OutputError(f"cannot write {cache}: {error.strerror}; choose another --cache") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
