"""How a vision encoder wants its pixels: the one thing that image processing must know of a model.

It stands on the floor of the records, since the processing of images and the models do not import each other.
"""

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """What a picture goes through before the encoder: letterboxed to a square, scaled to [0, 1], normalised.

    Args:
        size: Side of the square, in pixels.
        mean: Subtracted from each colour, in [0, 1].
        std: Each colour is divided by it, after the mean is taken away.
        interpolation: How the picture is resized.
        fill: Colour of the letterbox bars, in [0, 1]; black, as the surround of a film, unless a checkpoint was
            trained otherwise.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
