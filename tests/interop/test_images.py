"""Pixels prepared by transformers are ours: exactly through Pillow, within two grey values through torchvision."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmmed.errors import CheckpointError
from mmmed.interop.images import GREY_LEVELS, image_processor_of, pixel_difference, transform_of
from mmmed.processing.pixels import to_pixels
from mmmed.transforms import Fit, ImageTransform

CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
FITS: tuple[Fit, ...] = ("letterbox", "pad", "crop", "stretch")


def film(width: int, height: int) -> Image.Image:
    """Soft tissue with noise and one sharp edge, as a chest film has."""
    generator = np.random.default_rng(0)
    down, right = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    body = 180 * np.exp(-(right**2 + down**2)) + generator.normal(0, 12, (height, width)) + 40 * (abs(right) < 0.2)
    return Image.fromarray(body.clip(0, 255).astype(np.uint8))


def grey_values(ours: torch.Tensor, theirs: torch.Tensor, transform: ImageTransform) -> torch.Tensor:
    return ((ours - theirs) * torch.tensor(transform.std).view(3, 1, 1) * 255).abs()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(700, 512), (333, 501), (224, 224), (90, 61)])
def test_a_film_is_prepared_alike(fit: Fit, size: tuple[int, int]) -> None:
    transform = ImageTransform(size=224, fit=fit, fill=CLIP["mean"], **CLIP)
    picture = film(*size)
    ours = to_pixels(picture, transform)
    processor = image_processor_of(transform)
    usual = grey_values(ours, processor(picture.convert("RGB"), return_tensors="pt")["pixel_values"][0], transform)
    assert float(usual.max()) <= GREY_LEVELS
    assert float(usual.mean()) < 0.3


@pytest.mark.parametrize("fit", FITS)
def test_through_pillow_the_pixels_are_the_very_same(fit: Fit, tmp_path: Any) -> None:
    from transformers import AutoImageProcessor

    transform = ImageTransform(size=224, fit=fit, fill=CLIP["mean"], **CLIP)
    image_processor_of(transform).save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    for size in ((700, 512), (333, 501)):
        picture = film(*size).convert("RGB")
        theirs = torch.as_tensor(np.asarray(processor(picture, return_tensors="pt")["pixel_values"][0]))
        apart = grey_values(to_pixels(picture, transform), theirs, transform)
        if fit == "letterbox":  # the bars are one grey value off, the film is not
            width, height = (round(side * 224 / max(size)) for side in size)
            left, top = (224 - width) // 2, (224 - height) // 2
            assert float(apart.max()) < 1.01
            apart = apart[:, top : top + height, left : left + width]
        assert float(apart.max()) < 1e-3


@pytest.mark.parametrize("fit", FITS)
def test_a_transform_survives_the_way_there_and_back(fit: Fit) -> None:
    fill = CLIP["mean"] if fit in ("letterbox", "pad") else (0.0, 0.0, 0.0)
    transform = ImageTransform(size=336, interpolation="bilinear", fit=fit, fill=fill, **CLIP)
    assert transform_of(image_processor_of(transform).to_dict(), size=336) == transform


def test_another_preparation_is_noticed() -> None:
    transform = ImageTransform(size=64, fit="crop", **CLIP)
    other = image_processor_of(ImageTransform(size=64, fit="stretch", **CLIP))
    assert pixel_difference(transform, other) > 50
    assert pixel_difference(transform, image_processor_of(transform)) <= GREY_LEVELS


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"size": {"shortest_edge": 224}}, "size 224"),
        ({"resample": 1}, "resample 1"),
        ({"rescale_factor": 1 / 127.5}, "rescaling False"),
        ({"do_resize": False}, "cannot be repeated"),
    ],
)
def test_pixels_that_cannot_be_repeated_are_refused(change: dict[str, Any], complaint: str) -> None:
    settings = image_processor_of(ImageTransform(size=336, fit="crop", **CLIP)).to_dict()
    with pytest.raises(CheckpointError, match=complaint):
        transform_of(settings | change, size=336)
