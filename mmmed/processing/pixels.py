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


def to_pixels(image: Image.Image, transform: ImageTransform) -> Tensor:
    """Letterbox and normalise to (3, size, size), float32; grey is repeated over the three channels."""
    boxed = letterbox(image, size=transform.size, fill=transform.mean, interpolation=transform.interpolation)
    scaled = torch.from_numpy(np.asarray(boxed, dtype=np.float32).transpose(2, 0, 1)) / 255
    mean, std = torch.tensor(transform.mean).view(3, 1, 1), torch.tensor(transform.std).view(3, 1, 1)
    return ((scaled - mean) / std).contiguous()
