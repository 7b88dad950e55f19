"""Tiled features are those of the encoder on the picture made small and on each of its parts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmmed.errors import ConfigError
from mmmed.models.encoders.tiled import TiledEncoder
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.features import FrozenFeatures
from mmmed.models.vision import VisionEncoder
from mmmed.processing.pixels import to_pixels


@pytest.fixture
def encoder(tiny: dict[str, dict[str, Any]]) -> TransformersEncoder:
    torch.manual_seed(0)
    return TransformersEncoder(weights=None, config=tiny["clip"]).eval()


def film(size: int) -> Image.Image:
    smooth = Image.fromarray(np.random.default_rng(0).integers(60, 196, (9, 9, 3), dtype=np.uint8))
    return smooth.resize((size, size), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("grid", [2, 3])
def test_each_tile_is_what_the_encoder_sees_in_the_crop(encoder: TransformersEncoder, grid: int) -> None:
    tiled = TiledEncoder(encoder, grid=grid)
    picture = film(32 * grid)
    assert (tiled.transform.size, tiled.tokens, tiled.width) == (32 * grid, (1 + grid * grid) * 16, 32)
    with torch.no_grad():
        features = tiled(to_pixels(picture, tiled.transform)[None]).unflatten(1, (-1, 16))
        for index in range(grid * grid):
            top, left = 32 * (index // grid), 32 * (index % grid)
            crop = to_pixels(picture.crop((left, top, left + 32, top + 32)), encoder.transform)
            torch.testing.assert_close(features[:, 1 + index], encoder(crop[None]), atol=1e-5, rtol=1e-5)


def test_the_overview_is_what_the_encoder_sees_in_the_small_picture(encoder: TransformersEncoder) -> None:
    tiled = TiledEncoder(encoder)
    pixels = to_pixels(film(64), tiled.transform)[None]
    small = torch.nn.functional.interpolate(pixels, (32, 32), mode="bicubic", antialias=True)
    with torch.no_grad():
        overview = tiled(pixels)[:, :16]
        torch.testing.assert_close(overview, encoder(small), atol=1e-5, rtol=0)
        # Pillow rounds to whole grey levels, and is else the same.
        by_pillow = encoder(to_pixels(film(64), encoder.transform)[None])
    torch.testing.assert_close(overview, by_pillow, atol=0.05, rtol=0)
    assert by_pillow.std() > 0.5


def test_it_is_trained_with_its_encoder_and_built_again(
    encoder: TransformersEncoder, check: Callable[[VisionEncoder], None]
) -> None:
    tiled = TiledEncoder(encoder, grid=2)
    check(tiled)
    assert [id(block) for block in tiled.blocks()] == [id(block) for block in encoder.blocks()]
    arguments = tiled.recipe()["init_args"]
    again = TiledEncoder(TransformersEncoder(**arguments["encoder"]["init_args"]), arguments["grid"])
    again.load_state_dict(tiled.state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.eval()(pixels), tiled.eval()(pixels))


def test_what_cannot_be_tiled_is_refused(encoder: TransformersEncoder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="grid is 1; expected 2 or more"):
        TiledEncoder(encoder, grid=1)
    with pytest.raises(ConfigError, match="put FrozenFeatures around TiledEncoder"):
        TiledEncoder(FrozenFeatures(encoder, folder=str(tmp_path)))
