"""Which range of values becomes visible: VOI windows, with the usual ones of CT by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from mmmed.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


class Window(NamedTuple):
    """A range of values around a centre, in the units of the modality (HU in CT)."""

    center: float
    width: float
    shape: Shape = "LINEAR"


CT_WINDOWS = {
    "lung": Window(-600, 1500),
    "mediastinum": Window(50, 350),
    "soft_tissue": Window(50, 400),
    "liver": Window(30, 150),
    "bone": Window(400, 1800),
    "brain": Window(40, 80),
    "stroke": Window(40, 40),
    "subdural": Window(75, 215),
    "temporal_bone": Window(600, 2800),
}
"""In HU. Source: Radiopaedia, Windowing (CT), typical widths and levels (of subdural the middle of the range)."""


def named_window(name: str) -> Window:
    """Give the CT window of a name. Raises `ConfigError` for an unknown one."""
    if name not in CT_WINDOWS:
        raise ConfigError(f"unknown CT window {name!r}{did_you_mean(name, CT_WINDOWS)}")
    return CT_WINDOWS[name]


def apply_window(values: NDArray[np.float32], window: Window) -> NDArray[np.uint8]:
    """Map values of any shape to 0..255.

    Source: DICOM PS3.3, C.11.2.1.2 (linear) and C.11.2.1.3 (sigmoid, linear exact).
    """
    center, width, shape = window
    if shape == "SIGMOID":
        share = 1 / (1 + np.exp(np.clip(-4 * (values - center) / max(width, 1e-6), -60, 60)))
    elif shape == "LINEAR_EXACT":
        share = (values - center) / max(width, 1e-6) + 0.5
    else:
        # A width of 1 is a threshold at the centre; the quotient then only has to be large.
        share = (values - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
    scaled: NDArray[np.uint8] = (np.clip(share, 0.0, 1.0) * 255).round().astype(np.uint8)
    return scaled
