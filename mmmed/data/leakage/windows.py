"""What two pictures are compared by: local contrast, in the windows of a picture that a copy may have been cut to.

Letters in tensor names: N pictures, S side of a thumbnail in pixels, H side of a smaller one.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

CUTS = (0.0, 0.1, 0.2)
"""Shares of a side that may be cut off at one end. Between them the search is tolerant enough (measured)."""

MOST_CUT = 0.2
"""Share of a side that may be cut off at both ends together; a copy of less than 80 % of a side is not looked for."""


class Window(NamedTuple):
    """Shares of a picture that are cut off at its edges."""

    left: float = 0.0
    right: float = 0.0
    top: float = 0.0
    bottom: float = 0.0


WHOLE = Window()


def windows() -> list[Window]:
    """All windows that are searched, the whole picture first."""
    ends = [(first, last) for first in CUTS for last in CUTS if first + last <= MOST_CUT + 1e-9]
    return [Window(*across, *down) for across in ends for down in ends]


def window_maps(cuts_N4: Tensor) -> Tensor:
    """Maps (N, 2, 3) from the unit square [-1, 1]² of a copy to that of the picture it was cut from.

    Args:
        cuts_N4: Shares cut off at left, right, top and bottom.
    """
    left, right, top, bottom = cuts_N4.unbind(1)
    none = torch.zeros_like(left)
    across = torch.stack([1 - left - right, none, left - right], 1)
    down = torch.stack([none, 1 - top - bottom, top - bottom], 1)
    return torch.stack([across, down], 1)


def turned(maps_N23: Tensor, degrees_N: Tensor) -> Tensor:
    """The same maps after a turn of the copy about its middle."""
    angle = degrees_N * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return torch.cat([maps_N23[:, :, :2] @ turn, maps_N23[:, :, 2:]], 2)


def resample(pictures_NSS: Tensor, maps_N23: Tensor, *, padding: str = "border") -> Tensor:
    """See pictures through maps: (N, S, S) brightness at the places that a copy's pixels come from."""
    count, side, _ = pictures_NSS.shape
    grid = functional.affine_grid(maps_N23, [count, 1, side, side], align_corners=False)
    seen = functional.grid_sample(pictures_NSS[:, None], grid, padding_mode=padding, align_corners=False)
    return seen[:, 0]


def averaged(pictures_NSS: Tensor, window: Window, *, side: int) -> Tensor:
    """One window of each picture at a smaller side (N, side, side), every pixel the mean of the area it covers."""
    size = pictures_NSS.shape[-1]
    down = _areas(window.top, 1 - window.bottom, size=size, side=side)
    across = _areas(window.left, 1 - window.right, size=size, side=side)
    return down @ pictures_NSS @ across.T


def flattened(pictures_NSS: Tensor, *, sigma: float, reach: float) -> Tensor:
    """Local contrast: what stands out from its surroundings, in units of how much things stand out there.

    A change of brightness, contrast or gamma hardly changes it, and a bright line of text does not outweigh the rest.

    Args:
        pictures_NSS: Brightness in [0, 1].
        sigma: Width of the surroundings, in pixels.
        reach: Width over which contrast is measured, in pixels.

    Source: local contrast normalisation, Jarrett et al., What is the best multi-stage architecture for object
        recognition?, ICCV 2009, section 2.
    """
    detail = pictures_NSS - _blurred(pictures_NSS, sigma)
    contrast = _blurred(detail * detail, reach).clamp_min(0).sqrt()
    # One hundredth of the range: below that, what stands out is noise of compression.
    return detail / (contrast + 0.01)


def _areas(start: float, end: float, *, size: int, side: int) -> Tensor:
    """How much of each of `size` pixels lies in each of `side` equal parts of [start, end], rows that sum to 1."""
    edges = size * (start + (end - start) * torch.arange(side + 1) / side)
    low = torch.maximum(edges[:-1, None], torch.arange(size))
    high = torch.minimum(edges[1:, None], torch.arange(size) + 1)
    overlap = (high - low).clamp_min(0)
    return overlap / overlap.sum(1, keepdim=True)


def _blurred(pictures_NSS: Tensor, sigma: float) -> Tensor:
    side = pictures_NSS.shape[-1]
    radius = min(round(3 * sigma), side - 1)
    weights = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    # As a band matrix: one product each way is faster than a convolution at these sizes.
    places = (torch.arange(side)[:, None] + torch.arange(-radius, radius + 1)).abs()
    places = torch.where(places > side - 1, 2 * (side - 1) - places, places)
    band = torch.zeros(side, side).scatter_add_(1, places, weights.expand(side, -1))
    return band @ pictures_NSS @ band.T
