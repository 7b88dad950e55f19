"""How a vision encoder wants its pixels: the one thing that image processing must know of a model.

It stands on the floor of the records, since the processing of images and the models do not import each other.
"""

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["bicubic", "bilinear"]

Fit = Literal["letterbox", "pad", "crop", "stretch"]
"""How a picture becomes a square: shrunk into it with bars, padded to one and resized (LLaVA-1.5), its middle cut
out (CLIP), or resized without regard to its proportions (SigLIP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """What a picture goes through before the encoder: made a square, scaled to [0, 1], normalised.

    Args:
        size: Side of the square, in pixels.
        mean: Subtracted from each colour, in [0, 1].
        std: Each colour is divided by it, after the mean is taken away.
        interpolation: How the picture is resized.
        fill: Colour of the letterbox bars, in [0, 1]; encoders ask for their mean, as LLaVA does, unless told black.
        fit: How the picture becomes a square; checkpoints of others say what they were trained with.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fit: Fit = "letterbox"
