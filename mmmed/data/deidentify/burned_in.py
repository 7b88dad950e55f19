"""Text that is burned into pictures: found by optical character recognition, and painted over.

All text goes but the markers of left and right, which a reader needs. What was found in a picture is kept on disk
under the hash of its pixels, so that a picture is read once.

H, W: rows and columns.
"""

import hashlib
import logging
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmmed.data.deidentify.audit import Audit
from mmmed.data.deidentify.kept import keep_boxes, kept_boxes
from mmmed.errors import PrivacyError
from mmmed.records import LazyImage

VERSION = "rapidocr-ppocr6-small-2"
"""Raised whenever other boxes are found in the same picture, so that kept ones are not used."""

RULE = "ocr: text that is no marker of side"

_MARKER = re.compile(r"[\W_]*(?:L|R|LT|RT|LEFT|RIGHT)[\W_]*", re.IGNORECASE)
# A letter cut at the edge of a box is still a letter: share of the box's height, and pixels.
_MARGIN, _LEAST_MARGIN = 0.35, 2
# A line of text is longer than high, whatever was read in it; a letter is not.
_SQUARE = 1.8
# No line of text covers so large a part of a picture, unless it is read well.
_TOO_LARGE, _SURE = 0.25, 0.9
# Smaller pictures are enlarged, since the detector misses letters below some ten pixels.
_SHORT_SIDE = 736


class Box(NamedTuple):
    """A rectangle of a picture, in pixels; right and bottom are the first that lie outside."""

    left: int
    top: int
    right: int
    bottom: int


def find_text(picture: Image.Image) -> list[Box]:
    """Find where text stands that must go, with a margin.

    Raises:
        PrivacyError: The recogniser failed.
    """
    digest = picture_digest(picture)
    kept = kept_boxes(digest)
    if kept is not None:
        return [Box(*box) for box in kept]
    boxes = _read(picture)
    keep_boxes(digest, boxes)
    return boxes


def mask(picture: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """Paint boxes black; every other pixel stays as it is."""
    if not boxes:
        return picture
    masked = picture.copy()
    drawing = ImageDraw.Draw(masked)
    for box in boxes:
        drawing.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), fill=0)
    return masked


def picture_digest(picture: Image.Image) -> str:
    """Name a picture by its pixels."""
    digest = hashlib.sha256(f"{VERSION} {picture.mode} {picture.size}".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class MaskedImage:
    """A picture without its burned-in text, decoded and masked when asked for.

    Args:
        image: The picture.
        audit: Where masks are noted, once for each picture; None notes nothing.
    """

    image: LazyImage = field(repr=False)
    audit: Audit | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """That of the picture, by which splits are checked."""
        return self.image.name

    def open(self) -> Image.Image:
        """Decode and mask. Raises `ImageError` for a broken picture, and `PrivacyError` where reading it failed."""
        picture = self.image.open()
        boxes = find_text(picture)
        if self.audit is not None:
            self.audit.picture(boxes, picture=picture_digest(picture), rule=RULE)
        return mask(picture, boxes)


def _read(picture: Image.Image) -> list[Box]:
    pixels = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _reader()(np.ascontiguousarray(pixels))
    except Exception as error:
        # Whatever it was, the picture is not known to be safe, so the run must not go on.
        raise PrivacyError(
            f"reading burned-in text failed ({type(error).__name__}), so that no picture is known to be safe; "
            "the run stops"
        ) from error
    if found.boxes is None:
        return []
    return [
        _box(corners, picture.size)
        for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        if not _MARKER.fullmatch(text) and is_text(text, float(score), corners, picture.size)
    ]


def is_text(text: str, score: float, corners: NDArray[Any], size: tuple[int, int]) -> bool:
    """Say whether a box may hold more than one letter; anatomy is sometimes read as one, and one letter names nobody.

    Args:
        text: What was read.
        score: How surely, 0 to 1.
        corners: Of the box, (4, 2).
        size: Width and height of the picture.
    """
    width, height = np.maximum(corners.max(axis=0) - corners.min(axis=0), 1.0)
    if width * height > _TOO_LARGE * size[0] * size[1] and score < _SURE:
        return False
    is_square = 1 / _SQUARE <= width / height <= _SQUARE
    return not (is_square and sum(map(str.isalnum, text)) < 2)


def _box(corners: NDArray[Any], size: tuple[int, int]) -> Box:
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    margin = max(_LEAST_MARGIN, _MARGIN * min(right - left, bottom - top))
    width, height = size
    return Box(
        max(0, int(np.floor(left - margin))),
        max(0, int(np.floor(top - margin))),
        min(width, int(np.ceil(right + margin)) + 1),
        min(height, int(np.ceil(bottom + margin)) + 1),
    )


@lru_cache(maxsize=1)
def _reader() -> Any:
    from rapidocr import RapidOCR

    threads = int(os.environ.get("OMP_NUM_THREADS") or -1)
    reader = RapidOCR(
        params={
            # What is hardly legible to the recogniser is masked all the same.
            "Global.text_score": 0.0,
            "Global.log_level": "error",
            "Det.limit_side_len": _SHORT_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        }
    )
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return reader
