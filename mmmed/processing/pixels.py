"""From a decoded picture to the normalised tensor its encoder was trained on."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmmed.transforms import ImageTransform

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def letterbox(image: Image.Image, *, size: int, fill: tuple[float, float, float], interpolation: str) -> Image.Image:
    """Fit a picture into a square without changing its proportions; the margins take `fill` (each in [0, 1])."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    fitted = image.convert("RGB").resize((width, height), _RESAMPLING[interpolation])
    if (width, height) == (size, size):
        return fitted
    red, green, blue = (round(255 * value) for value in fill)
    canvas = Image.new("RGB", (size, size), (red, green, blue))
    canvas.paste(fitted, ((size - width) // 2, (size - height) // 2))
    return canvas


def pad_to_square(
    image: Image.Image, *, size: int, fill: tuple[float, float, float], interpolation: str
) -> Image.Image:
    """Lay a picture in the middle of a square as wide as its longer side, then resize.

    Source: LLaVA, `expand2square`, which cuts the fill colour down to whole grey values.
    """
    picture = image.convert("RGB")
    side = max(picture.size)
    red, green, blue = (int(255 * value) for value in fill)
    canvas = Image.new("RGB", (side, side), (red, green, blue))
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return canvas.resize((size, size), _RESAMPLING[interpolation])


def crop_to_square(image: Image.Image, *, size: int, interpolation: str) -> Image.Image:
    """Resize the shorter side to the square's and cut out the middle, as CLIP's own processing does."""
    picture = image.convert("RGB")
    shorter = min(picture.size)
    width, height = (size if side == shorter else int(size * side / shorter) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = picture.resize((width, height), _RESAMPLING[interpolation])
    return resized.crop((left, top, left + size, top + size))


def to_pixels(image: Image.Image, transform: ImageTransform) -> Tensor:
    """Make square and normalise to (3, size, size), float32; grey is repeated over the three channels."""
    square = _square(image, transform)
    scaled = torch.from_numpy(np.asarray(square, dtype=np.float32).transpose(2, 0, 1)) / 255
    mean, std = torch.tensor(transform.mean).view(3, 1, 1), torch.tensor(transform.std).view(3, 1, 1)
    return ((scaled - mean) / std).contiguous()


def _square(image: Image.Image, transform: ImageTransform) -> Image.Image:
    size, interpolation = transform.size, transform.interpolation
    if transform.fit == "pad":
        return pad_to_square(image, size=size, fill=transform.fill, interpolation=interpolation)
    if transform.fit == "crop":
        return crop_to_square(image, size=size, interpolation=interpolation)
    if transform.fit == "stretch":
        return image.convert("RGB").resize((size, size), _RESAMPLING[interpolation])
    return letterbox(image, size=size, fill=transform.fill, interpolation=interpolation)
