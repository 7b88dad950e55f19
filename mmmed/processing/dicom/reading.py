"""From a file to a DICOM dataset, with every way in which it can be broken told in one line."""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from mmmed.errors import ImageError
from mmmed.processing.image import MOST_PIXELS

MOST_FRAMES = 4096
"""Frames that one object may hold; cine loops have hundreds."""

# Its warnings quote values, which may be names.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

# pydicom converts values when they are asked for, so a damaged file may raise any of these at any access.
_FAULTS = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    ArithmeticError,
    NotImplementedError,
    RuntimeError,
    AssertionError,
    BufferError,
    MemoryError,
    struct.error,
    zlib.error,
)

_RUST = "pyo3_runtime"


@contextmanager
def dicom_faults(path: Path) -> Iterator[None]:
    """Turn whatever a damaged object raises inside into one `ImageError`, and keep pydicom's warnings quiet.

    Raises:
        ImageError: Something inside raised.
    """
    try:
        with warnings.catch_warnings():
            # Values that break their rules are common and mostly harmless; those that matter raise later.
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except _FAULTS as error:
        raise _in_one_line(error, path) from error
    except BaseException as error:
        # The decoder of RLE is written in Rust, where damage ends in a panic, which Python holds to be no `Exception`.
        if type(error).__module__ != _RUST:
            raise
        raise _in_one_line(error, path) from None


def _in_one_line(error: BaseException, path: Path) -> ImageError:
    # What pydicom quotes may be bytes of the file, or a name out of it.
    told = re.sub(r"""b?(?P<mark>['"]).*?((?P=mark)|$)""", "…", " ".join(str(error).split()))
    reason = "".join(character for character in told if character.isprintable())[:120] or type(error).__name__
    return ImageError(f"DICOM file {path} cannot be read ({reason}); fetch it again or remove its record")


def read_dataset(path: Path, *, pixels: bool = True) -> Dataset:
    """Read one object.

    Args:
        path: The file.
        pixels: Read the pixels too; without them a folder of thousands is listed quickly.

    Raises:
        ImageError: The file is missing, empty, no DICOM, or damaged.
    """
    if not path.is_file():
        raise ImageError(f"DICOM file {path} is missing; check the source's root")
    if path.stat().st_size == 0:
        raise ImageError(f"DICOM file {path} is empty (0 bytes); fetch it again or remove its record")
    with dicom_faults(path):
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
        if not any(element.tag.group > 2 for element in dataset.iterall()):
            raise ImageError(f"DICOM file {path} holds no element; fetch it again or remove its record")
    return dataset


def check_size(dataset: Dataset, *, path: Path) -> int:
    """Refuse sizes that no film has before memory is taken for them; gives the number of frames.

    Raises:
        ImageError: Rows, columns or frames are missing, zero or absurd.
    """
    rows, columns = _whole(dataset, "Rows", path=path), _whole(dataset, "Columns", path=path)
    frames = _whole(dataset, "NumberOfFrames", path=path) if dataset.get("NumberOfFrames") else 1
    samples = _whole(dataset, "SamplesPerPixel", path=path) if dataset.get("SamplesPerPixel") else 1
    if rows * columns > MOST_PIXELS or frames > MOST_FRAMES or samples > 4:
        raise ImageError(
            f"DICOM file {path} claims {frames} frame(s) of {rows} x {columns} x {samples}; at most "
            f"{MOST_FRAMES} frames of {MOST_PIXELS} pixels are decoded"
        )
    return frames


def _whole(dataset: Dataset, keyword: str, *, path: Path) -> int:
    value = dataset.get(keyword)
    try:
        number = int(value) if value is not None else 0
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise ImageError(f"DICOM file {path} has no usable {keyword} ({value!r}); it holds no picture")
    return number
