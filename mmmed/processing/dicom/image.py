"""A frame of a DICOM object as a lazy picture, and where the gate asks for it, as the values it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mmmed.errors import ImageError
from mmmed.processing.dicom.frames import eight_bit_frame
from mmmed.processing.dicom.reading import check_size, dicom_faults, read_dataset
from mmmed.processing.dicom.windows import named_window


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomImage:
    """One frame of a DICOM object, decoded when asked for.

    Grey values are rescaled to those of the modality and windowed; MONOCHROME1 is inverted, so that bone is bright
    in every film; palettes and YBR become RGB.

    Args:
        path: The file.
        frame: Which frame of a multi-frame object, from 0.
        window: Name of a CT window in HU; None takes the object's own.
    """

    path: Path
    frame: int = 0
    window: str | None = None

    @property
    def name(self) -> str:
        """File, frame and window, which stand for the content within a run."""
        return f"{self.path}[{self.frame}]{f' {self.window}' if self.window else ''}"

    def open(self) -> Image.Image:
        """Decode to 8-bit "L" or "RGB".

        Raises:
            ImageError: The file is missing, no DICOM, damaged, too large, or has no such frame.
            ConfigError: There is no CT window of this name.
        """
        window = named_window(self.window) if self.window else None
        dataset = read_dataset(self.path)
        with dicom_faults(self.path):
            frames = check_size(dataset, path=self.path)
            if not 0 <= self.frame < frames:
                raise ImageError(f"DICOM file {self.path} has no frame {self.frame}; it holds {frames}")
            return Image.fromarray(eight_bit_frame(dataset, self.frame, window=window, path=self.path))
