"""Pixels prepared for one encoder become those that another would have been given."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmmed.models.encoders.renormalise import Renormalise
from mmmed.processing.pixels import to_pixels
from mmmed.transforms import ImageTransform

CLIP = ImageTransform(size=64, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))
HALF = ImageTransform(size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture
def film() -> Image.Image:
    grey = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(grey)


def test_what_agrees_is_not_changed_by_a_bit(film: Image.Image) -> None:
    pixels = to_pixels(film, CLIP).unsqueeze(0)
    assert torch.equal(Renormalise(CLIP, CLIP)(pixels), pixels)


def test_another_normalisation_is_that_of_the_picture_itself(film: Image.Image) -> None:
    renormalised = Renormalise(CLIP, HALF)(to_pixels(film, CLIP).unsqueeze(0))
    torch.testing.assert_close(renormalised[0], to_pixels(film, HALF), atol=1e-6, rtol=0)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_another_size_is_that_of_pillow_to_the_rounding(film: Image.Image, interpolation: str) -> None:
    small = ImageTransform(size=24, mean=HALF.mean, std=HALF.std, interpolation=interpolation)
    resized = Renormalise(CLIP, small)(to_pixels(film, CLIP).unsqueeze(0))[0]
    grey_level = 1 / 255 / 0.5
    # Pillow rounds to whole grey levels after each of its two passes.
    assert (resized - to_pixels(film, small)).abs().max() < 1.1 * grey_level


def test_a_cubic_filter_does_not_leave_black_and_white() -> None:
    edge = Image.fromarray(np.repeat(np.repeat(np.array([[0, 255], [255, 0]], np.uint8), 32, 0), 32, 1))
    resized = Renormalise(CLIP, ImageTransform(size=24, mean=HALF.mean, std=HALF.std))(to_pixels(edge, CLIP)[None])
    assert resized.min() >= -1 - 1e-6
    assert resized.max() <= 1 + 1e-6


def test_the_normalisation_is_kept_with_the_weights() -> None:
    other = Renormalise(HALF, HALF)
    other.load_state_dict(Renormalise(CLIP, HALF).state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(other(pixels), Renormalise(CLIP, HALF)(pixels))
