"""How pixels are prepared: our `ImageTransform` as an image processor of transformers, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmmed.errors import CheckpointError
from mmmed.processing.pixels import to_pixels
from mmmed.transforms import Fit, ImageTransform, Interpolation

_RESAMPLE: dict[Interpolation, int] = {"bilinear": 2, "bicubic": 3}
_OUR_NAME = {number: name for name, number in _RESAMPLE.items()}

GREY_LEVELS = 2.01
"""How far a pixel may be off, in 255ths: torchvision and Pillow round a resized grey value differently by one, and
LLaVA cuts the colour of the bars down to a whole value where we round it."""


def image_processor_of(transform: ImageTransform) -> Any:
    """Make the image processor of transformers that prepares pixels as we do.

    Letterboxing is DeepseekVL's, the only one of transformers that shrinks a picture before it lays it on bars.
    """
    from transformers import CLIPImageProcessor, DeepseekVLImageProcessor, LlavaImageProcessor

    square = {"height": transform.size, "width": transform.size}
    shortest = {"shortest_edge": transform.size}
    common: dict[str, Any] = {
        "image_mean": list(transform.mean),
        "image_std": list(transform.std),
        "resample": _RESAMPLE[transform.interpolation],
        "crop_size": square,
    }
    if transform.fit == "letterbox":
        return DeepseekVLImageProcessor(size=square, min_size=1, **common)
    if transform.fit == "pad":
        return LlavaImageProcessor(size=shortest, do_pad=True, **common)
    if transform.fit == "crop":
        return CLIPImageProcessor(size=shortest, **common)
    return CLIPImageProcessor(size=square, do_center_crop=False, **common)


def transform_of(settings: Mapping[str, Any], *, size: int) -> ImageTransform:
    """Read our transform out of a preprocessor configuration.

    Args:
        settings: The content of preprocessor_config.json, or of `image_processor` in processor_config.json.
        size: Side of the images that the encoder takes.

    Raises:
        CheckpointError: Pixels are prepared in a way that we cannot repeat.
    """
    fit = _fit(settings)
    given, resample = _side(settings), settings.get("resample", 3)
    scaled = settings.get("do_rescale", True) and abs(settings.get("rescale_factor", 1 / 255) - 1 / 255) < 1e-9
    if given != size or resample not in _OUR_NAME or not scaled or not settings.get("do_normalize", True):
        raise CheckpointError(
            f"pixels are prepared with size {given}, resample {resample}, rescaling {scaled}; expected size {size} as "
            "the encoder has, resample 2 or 3, rescaling by 1/255 and normalisation"
        )
    mean, std = (_colour(settings[name]) for name in ("image_mean", "image_std"))
    fill = mean if fit in ("letterbox", "pad") else (0.0, 0.0, 0.0)
    return ImageTransform(size=size, mean=mean, std=std, interpolation=_OUR_NAME[resample], fill=fill, fit=fit)


def pixel_difference(transform: ImageTransform, processor: Any) -> float:
    """Largest difference, in 255ths, between our pixels and an image processor's, over pictures of several shapes."""
    worst = 0.0
    std = torch.tensor(transform.std).view(3, 1, 1)
    for picture in _probes(transform.size):
        theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
        ours = to_pixels(picture, transform)
        if theirs.shape != ours.shape:
            return float("inf")
        worst = max(worst, float(((theirs - ours) * std).abs().max()) * 255)
    return worst


@dataclass(frozen=True, slots=True)
class ProbeImage:
    """A soft picture in memory, twice as wide as high, to try a processor with."""

    size: int
    name: str = "probe"

    def open(self) -> Image.Image:
        """The picture."""
        return _soft(2 * self.size, self.size)


def _probes(size: int) -> list[Image.Image]:
    """Soft pictures, wide, tall and square, as films are; their sides do not divide evenly."""
    shapes = ((int(size * 1.7) + 3, size + 1), (size - 1, int(size * 1.4) + 2), (size + 5, size + 5))
    return [_soft(*shape) for shape in shapes]


def _soft(width: int, height: int) -> Image.Image:
    down, right = np.meshgrid(np.linspace(0, 9, height), np.linspace(0, 7, width), indexing="ij")
    red, green = np.sin(right) * np.cos(down), np.cos(right + down)
    pixels = np.stack([red, green, (red + green) / 2], axis=-1)
    return Image.fromarray(((pixels + 1) * 127).astype(np.uint8))


def _fit(settings: Mapping[str, Any]) -> Fit:
    kind = str(settings.get("image_processor_type", "CLIPImageProcessor"))
    if kind.startswith(("DeepseekVLImageProcessor", "JanusImageProcessor")):
        return "letterbox"
    if settings.get("do_pad") and kind.startswith("LlavaImageProcessor"):
        return "pad"
    if not settings.get("do_resize", True) or settings.get("do_pad"):
        raise CheckpointError(f"{kind} neither crops, pads as LLaVA does, nor stretches; its pixels cannot be repeated")
    # SigLIP's processor has no middle to cut out.
    crops = settings.get("do_center_crop", not kind.startswith("Siglip"))
    return "crop" if crops and "shortest_edge" in _size(settings) else "stretch"


def _size(settings: Mapping[str, Any]) -> Mapping[str, int]:
    size = settings.get("size", 224)
    return {"shortest_edge": size} if isinstance(size, int) else size


def _side(settings: Mapping[str, Any]) -> int | None:
    size = _size(settings)
    return size.get("shortest_edge") or (size.get("height") if size.get("height") == size.get("width") else None)


def _colour(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue
