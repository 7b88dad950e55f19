"""A picture becomes the square that its encoder expects."""

import torch
from PIL import Image

from mmmed.processing.pixels import to_pixels
from mmmed.transforms import ImageTransform

HALF = (0.5, 0.5, 0.5)


def test_the_bars_of_a_letterbox_have_the_colour_asked_for() -> None:
    white = Image.new("L", (40, 20), 255)
    for fill, expected in (((0.0, 0.0, 0.0), -1.0), (HALF, 0.0)):
        pixels_CHW = to_pixels(white, ImageTransform(size=40, mean=HALF, std=HALF, fill=fill))
        torch.testing.assert_close(pixels_CHW[:, :10], torch.full((3, 10, 40), expected), atol=0.01, rtol=0)
        assert torch.equal(pixels_CHW[:, 10:30], torch.ones(3, 20, 40))
