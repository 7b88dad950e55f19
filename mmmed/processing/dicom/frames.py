"""From the stored samples of a frame to values of the modality, and from these to an 8-bit picture.

H, W: rows and columns of a frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array

from mmmed.errors import ImageError
from mmmed.processing.dicom.windows import Window, apply_window
from mmmed.processing.image import stretch_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GREY = ("MONOCHROME1", "MONOCHROME2")
_SHAPES = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def stored_frame(dataset: Dataset, frame: int) -> NDArray[np.generic]:
    """Decode one frame as stored: (H, W), or (H, W, 3) with YBR turned into RGB."""
    stored: NDArray[np.generic] = pixel_array(dataset, index=frame)
    return stored


def modality_values(dataset: Dataset, frame: int) -> NDArray[np.float32]:
    """Values in the units of the modality, (H, W): HU of a CT. Padding keeps its own, meaningless value."""
    stored = stored_frame(dataset, frame)
    scale = _macro(dataset, frame, "PixelValueTransformationSequence")
    if scale is not None and "RescaleSlope" in scale:
        slope, intercept = float(scale.RescaleSlope), float(scale.get("RescaleIntercept") or 0)
        return (stored.astype(np.float32) * slope + intercept).astype(np.float32)
    return np.asarray(apply_modality_lut(stored, dataset)).astype(np.float32)


def eight_bit_frame(dataset: Dataset, frame: int, *, window: Window | None, path: Path) -> NDArray[np.uint8]:
    """One frame as it is to be seen, (H, W) or (H, W, 3), dark for low values whatever the file says.

    Args:
        dataset: The object.
        frame: Which frame.
        window: Range of values to show; None takes the object's own LUT or window, or stretches the values.
        path: For messages.

    Raises:
        ImageError: The object has a kind of pixel that is not known.
    """
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind in _GREY:
        grey = _grey(dataset, frame, window=window)
        return np.asarray(255 - grey if kind == "MONOCHROME1" else grey, dtype=np.uint8)
    stored = stored_frame(dataset, frame)
    if kind == "PALETTE COLOR":
        stored = np.asarray(apply_color_lut(stored, dataset))
        bits = 16 if stored.dtype.itemsize > 1 else 8
    else:
        bits = int(dataset.get("BitsStored") or 8)
    if stored.ndim != 3 or stored.shape[2] not in (3, 4):
        raise ImageError(
            f"DICOM file {path} has pixels of kind {kind!r} and shape {stored.shape}; expected grey, palette or colour"
        )
    shifted = stored[..., :3].astype(np.int64) >> max(0, bits - 8)
    shown: NDArray[np.uint8] = np.clip(shifted, 0, 255).astype(np.uint8)
    return shown


def own_window(dataset: Dataset, frame: int) -> Window | None:
    """The first window that the object itself gives for a frame."""
    place = _macro(dataset, frame, "FrameVOILUTSequence") or dataset
    center, width = _first(place.get("WindowCenter")), _first(place.get("WindowWidth"))
    if center is None or width is None or not np.isfinite([center, width]).all() or width <= 0:
        return None
    shape = str(place.get("VOILUTFunction") or "LINEAR").strip().upper()
    return Window(center, width, shape if shape in _SHAPES else "LINEAR")  # type: ignore[arg-type]


def _grey(dataset: Dataset, frame: int, *, window: Window | None) -> NDArray[np.uint8]:
    values = modality_values(dataset, frame)
    if window is not None:
        return apply_window(values, window)
    if dataset.get("VOILUTSequence"):
        table = np.asarray(apply_voi(values.astype(np.int64), dataset)).astype(np.float32)
        # The second of the descriptor's three numbers is the first value mapped, the third the bits of an entry.
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        looked_up: NDArray[np.uint8] = (np.clip(table / (2**bits - 1), 0, 1) * 255).round().astype(np.uint8)
        return looked_up
    own = own_window(dataset, frame)
    if own is not None:
        return apply_window(values, own)
    if int(dataset.get("BitsStored") or 0) == 8 and values.min() >= 0 and values.max() <= 255:
        return values.round().astype(np.uint8)
    padding = dataset.get("PixelPaddingValue")
    if isinstance(padding, int):
        values = np.where(stored_frame(dataset, frame) == padding, np.float32(np.nan), values)
    return stretch_grey(values)


def _macro(dataset: Dataset, frame: int, name: str) -> Dataset | None:
    """Find a functional group of an enhanced object: of the frame itself, or shared by all frames."""
    of_frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [of_frames[frame]] if frame < len(of_frames) else []
    groups.extend(dataset.get("SharedFunctionalGroupsSequence") or [])
    for group in groups:
        if group.get(name):
            found: Dataset = group.get(name)[0]
            return found
    return None


def _first(value: Any) -> float | None:
    # An empty value is None, one value a number, several a sequence of numbers.
    if value is None or value == "":
        return None
    if hasattr(value, "__len__") and not isinstance(value, str):
        return float(value[0]) if len(value) else None
    return float(value)
