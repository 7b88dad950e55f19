"""From a 3D volume to a sequence of slices, which a model reads as the pictures of one example."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mmmed.errors import ImageError
from mmmed.processing.image import read_array, stretch_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSlice:
    """One slice of a volume in an npz file, its grey stretched over the whole volume, so that slices compare.

    Args:
        path: The npz file.
        key: The array: one volume (D, H, W), or a stack of them (N, D, H, W), as MedMNIST publishes them.
        volume: Which volume of a stack; None where the array is one.
        index: Which slice.
        axis: Along which of D, H, W slices are counted.
    """

    path: Path
    key: str
    volume: int | None
    index: int
    axis: int = 0

    @property
    def name(self) -> str:
        """File, array, volume and slice, which stand for the content within a run."""
        volume = "" if self.volume is None else f"[{self.volume}]"
        return f"{self.path}:{self.key}{volume}, slice {self.index} of axis {self.axis}"

    def open(self) -> Image.Image:
        """Take the slice from the volume, which is read once per process. Raises `ImageError`."""
        grey_DHW = _eight_bit(self.path, self.key, self.volume)
        if not 0 <= self.index < grey_DHW.shape[self.axis]:
            raise ImageError(f"{self.name} does not exist: the volume has {grey_DHW.shape[self.axis]}; check the index")
        return Image.fromarray(np.ascontiguousarray(grey_DHW.take(self.index, axis=self.axis)))


def volume_slices(
    path: Path, key: str, *, count: int, volume: int | None = None, axis: int = 0
) -> tuple[VolumeSlice, ...]:
    """Choose slices at even distances, from first to last, as the `images` of an `Example`.

    Args:
        path: The npz file.
        key: The array, (D, H, W) or (N, D, H, W).
        count: Number of slices; a volume that has fewer gives all of its own.
        volume: Which volume of a stack.
        axis: Along which of D, H, W to cut.

    Raises:
        ImageError: The file holds no such volume.
    """
    depth = _volume(path, key, volume).shape[axis]
    return tuple(
        VolumeSlice(path=path, key=key, volume=volume, index=index, axis=axis) for index in evenly(depth, count)
    )


def evenly(depth: int, count: int) -> list[int]:
    """The middle slice of each of `count` equal parts of a depth; all slices where there are fewer."""
    if depth <= count:
        return list(range(depth))
    return [(2 * part + 1) * depth // (2 * count) for part in range(count)]


def _volume(path: Path, key: str, volume: int | None) -> NDArray[np.generic]:
    array = read_array(path, key)
    expected = 3 if volume is None else 4
    if array.ndim != expected:
        raise ImageError(
            f"{path}:{key} has shape {array.shape}; expected (D, H, W), or (N, D, H, W) and which volume of them"
        )
    if volume is None:
        return array
    if not 0 <= volume < len(array):
        raise ImageError(f"{path}:{key} has no volume {volume}; it holds {len(array)}")
    chosen: NDArray[np.generic] = array[volume]
    return chosen


@lru_cache(maxsize=16)
def _eight_bit(path: Path, key: str, volume: int | None) -> NDArray[np.uint8]:
    grey_DHW = _volume(path, key, volume)
    return grey_DHW.astype(np.uint8) if grey_DHW.dtype == np.uint8 else stretch_grey(grey_DHW)
