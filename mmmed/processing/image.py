"""From a file or an array to one 8-bit picture: the only place where pixels enter the project.

Training, scoring and serving all decode here, so that a film looks the same to the model in each of them.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmmed.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PIXELS = 2**26
"""Largest picture that is decoded, in pixels (8192 x 8192): above any film, far below a decompression bomb."""

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are tried. Others that Pillow knows would start an interpreter (EPS) or are no pictures of patients."""

RESCALE_PERCENTILES = (0.5, 99.5)
"""Range of grey values, in percentiles, that is stretched over 0..255; the rest is burned-in text and hot pixels."""

_TOO_LARGE = f"has more than the {MOST_PIXELS} pixels that are decoded; make it smaller"
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
# What Pillow's decoders raise on damaged files: OSError for most, the others from single formats.
_DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
)
# Pillow's own limits: a warning from 89 million pixels (an error where warnings are), an error from twice that.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A picture on disk, decoded when asked for."""

    path: Path

    @property
    def name(self) -> str:
        """The path, which stands for the content within a run."""
        return str(self.path)

    def content(self) -> bytes:
        """The file as it is. Raises `ImageError`."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ImageError(
                f"image {self.path} cannot be read ({error.strerror}); check the path, or the root of its source"
            ) from error

    def open(self) -> Image.Image:
        """Decode the first frame to 8 bit, "L" or "RGB".

        Raises:
            ImageError: The file is missing, empty, no picture, damaged or too large.
        """
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise ImageError(
                f"image {self.path} cannot be read ({error.strerror}); check the path, or the root of its source"
            ) from error
        if size == 0:
            raise ImageError(f"image {self.path} is empty (0 bytes); fetch it again or remove its record")
        return decode(self.path, name=str(self.path))


def decode(picture: Path | BinaryIO, *, name: str) -> Image.Image:
    """Decode the first frame of an encoded picture to 8 bit, "L" or "RGB"; `name` says which it is in an error.

    Raises:
        ImageError: It is no picture, damaged or too large.
    """
    try:
        with Image.open(picture, formats=FORMATS) as image:
            _refuse_bomb(image, name=name)
            image.load()
            return eight_bit(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ImageError(
            f"image {name} is no picture in a known format ({', '.join(FORMATS)}); convert it or remove its record"
        ) from error
    except _BOMBS as error:
        raise ImageError(f"image {name} {_TOO_LARGE}") from error
    except _DECODING_ERRORS as error:
        raise ImageError(
            f"image {name} is damaged ({_one_line(error)}); fetch it again or remove its record"
        ) from error


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """One picture of a stack in an npz file, shape (N, H, W) or (N, H, W, 3), as MedMNIST publishes them."""

    path: Path
    key: str
    index: int

    @property
    def name(self) -> str:
        """File, array and place, which stand for the content within a run."""
        return f"{self.path}:{self.key}[{self.index}]"

    def content(self) -> bytes:
        """The values with their shape and type. Raises `ImageError`."""
        pixels = self._pixels()
        return f"{pixels.dtype}{pixels.shape}".encode() + pixels.tobytes()

    def open(self) -> Image.Image:
        """Take the picture from the stack, which is read once per process.

        Raises:
            ImageError: The file or array is missing or damaged, or holds no such picture.
        """
        pixels = self._pixels()
        if pixels.ndim == 2 and pixels.dtype != np.uint8:
            return Image.fromarray(stretch_grey(pixels))
        if pixels.dtype == np.uint8 and (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
            return Image.fromarray(pixels)
        raise ImageError(
            f"image {self.name} has shape {pixels.shape} and type {pixels.dtype}; "
            "expected (H, W), or (H, W, 3) of uint8"
        )

    def _pixels(self) -> NDArray[np.generic]:
        stack = read_array(self.path, self.key)
        if not 0 <= self.index < len(stack):
            raise ImageError(f"image {self.name} does not exist: {self.key!r} holds {len(stack)}; check the index")
        pixels: NDArray[np.generic] = stack[self.index]
        return pixels


@lru_cache(maxsize=8)
def read_array(path: Path, key: str) -> NDArray[np.generic]:
    """Read one array of an npz file, once per process. Pickled content is refused, since it could run code.

    Raises:
        ImageError: The file is missing or damaged, has no such array, or would need unpickling.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if key not in archive:
                raise ImageError(f"{path} has no array {key!r}; it holds {', '.join(sorted(archive))}")
            array: NDArray[np.generic] = archive[key]
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError(
            f"{path} cannot be read as npz ({_one_line(error)}); fetch it again or check the source's root"
        ) from error
    return array


def eight_bit(image: Image.Image) -> Image.Image:
    """Bring a decoded picture to "L" or "RGB": palettes resolved, transparency laid on black, deep grey stretched."""
    if image.mode in _DEEP_MODES:
        return Image.fromarray(stretch_grey(np.asarray(image)))
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        black = Image.new("RGBA", opaque.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, opaque).convert(mode)
    # A copy even where the mode fits: the caller must not depend on an open file.
    return image.convert(mode)


def stretch_grey(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Stretch deep grey values of any shape to 0..255 between `RESCALE_PERCENTILES`; not finite becomes 0."""
    values = pixels.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = np.percentile(values[finite], RESCALE_PERCENTILES)
    span = max(float(high - low), np.finfo(np.float32).tiny)
    stretched = np.where(finite, (values - low) / span, 0.0)
    return (stretched.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)


def _refuse_bomb(image: Image.Image, *, name: str) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ImageError(f"image {name} ({width} x {height}) {_TOO_LARGE}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
