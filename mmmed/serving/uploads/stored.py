"""A frame that was read, as the model and the page see it: alike, through the same window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmmed.processing.dicom.windows import Window, apply_window
from mmmed.processing.image import ImageFile


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFrame:
    """One frame of an upload.

    Args:
        folder: Of the upload.
        place: Which of its frames.
        window: Range of values to show; None shows the frame as the file itself asks for.
        is_inverted: Whether high values are dark (MONOCHROME1).
    """

    folder: Path
    place: int
    window: Window | None = None
    is_inverted: bool = False

    @property
    def name(self) -> str:
        """Folder, frame and window, which stand for the content within a run."""
        seen = f" {self.window.center:g}/{self.window.width:g}" if self.window else ""
        return f"{self.folder.name}[{self.place}]{seen}"

    def open(self) -> Image.Image:
        """Decode to 8-bit "L" or "RGB". Raises `ImageError` where the upload is gone."""
        values = self.folder / f"{self.place}.npy"
        if self.window is None or not values.is_file():
            return ImageFile(self.folder / f"{self.place}.png").open()
        grey = apply_window(np.load(values, allow_pickle=False), self.window)
        return Image.fromarray(255 - grey if self.is_inverted else grey)
