"""Fused features are those of each encoder on its own view of the picture, side by side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmmed.errors import ConfigError
from mmmed.models.encoders.fused import FusedEncoder, on_grid
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.features import FrozenFeatures
from mmmed.models.vision import VisionEncoder
from mmmed.processing.pixels import to_pixels

Check = Callable[[VisionEncoder], None]
Make = Callable[..., TransformersEncoder]


@pytest.fixture
def make(tiny: dict[str, dict[str, Any]]) -> Make:
    def made(family: str, **settings: Any) -> TransformersEncoder:
        torch.manual_seed(len(family))
        return TransformersEncoder(weights=None, config=tiny[family], **settings).eval()

    return made


@pytest.fixture
def film() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8))


def test_where_sizes_agree_each_sees_the_picture_as_if_alone(make: Make, film: Image.Image) -> None:
    dinov2, siglip = make("dinov2", size=56), make("siglip", size=56)
    fused = FusedEncoder([dinov2, siglip])
    assert (fused.tokens, fused.width) == (16, 64)
    assert fused.transform == dinov2.transform
    with torch.no_grad():
        features = fused(to_pixels(film, fused.transform)[None])
        alone = [encoder(to_pixels(film, encoder.transform)[None]) for encoder in (dinov2, siglip)]
    assert torch.equal(features[..., :32], alone[0])
    torch.testing.assert_close(features[..., 32:], on_grid(alone[1], side=4), atol=1e-5, rtol=1e-5)


def test_the_picture_comes_at_the_largest_size_and_tokens_on_the_first_grid(make: Make, film: Image.Image) -> None:
    clip, dinov2 = make("clip"), make("dinov2", size=56)
    fused = FusedEncoder([clip, dinov2])
    assert fused.transform == dinov2.transform
    assert (fused.tokens, fused.width) == (16, 64)
    with torch.no_grad():
        features = fused(to_pixels(film, fused.transform)[None])
        torch.testing.assert_close(features[..., 32:], dinov2(to_pixels(film, dinov2.transform)[None]), atol=0, rtol=0)
        near = clip(to_pixels(film, clip.transform)[None])
    similar = torch.nn.functional.cosine_similarity(features[..., :32], near, dim=-1)
    assert similar.min() > 0.99


def test_a_pooled_token_is_repeated_over_the_grid(make: Make, film: Image.Image) -> None:
    fused = FusedEncoder([make("dinov2", size=56), make("siglip", size=56, layer="final", select="pooled")])
    with torch.no_grad():
        features = fused(to_pixels(film, fused.transform)[None])
    pooled = features[..., 32:]
    torch.testing.assert_close(pooled, pooled[:, :1].expand_as(pooled))


def test_a_grid_of_features_is_interpolated_in_place() -> None:
    ramp = torch.arange(4.0).repeat(4, 1).reshape(1, 16, 1)
    torch.testing.assert_close(on_grid(ramp, side=2)[0, :, 0].reshape(2, 2)[0], on_grid(ramp, side=2)[0, 2:, 0])
    assert on_grid(ramp, side=2)[0, 0, 0] < on_grid(ramp, side=2)[0, 1, 0]
    assert on_grid(ramp, side=8)[0, :, 0].reshape(8, 8)[0].diff().min() >= 0
    torch.testing.assert_close(on_grid(on_grid(ramp, side=8).mean(1, keepdim=True), side=1).mean(), ramp.mean())


def test_it_is_trained_as_one_and_built_again(make: Make, check: Check) -> None:
    fused = FusedEncoder([make("clip"), make("dinov2", size=56), make("siglip")])
    check(fused)
    again = FusedEncoder([TransformersEncoder(**one["init_args"]) for one in fused.recipe()["init_args"]["encoders"]])
    again.load_state_dict(fused.state_dict())
    pixels = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        assert torch.equal(again.eval()(pixels), fused.eval()(pixels))


def test_the_last_blocks_are_the_last_of_each(make: Make) -> None:
    deep, shallow = make("clip", layer=-1), make("dinov2", layer=0)
    blocks = FusedEncoder([deep, shallow]).blocks()
    assert len(blocks) == 3
    last = {id(one) for one in blocks[-1].parameters()}
    assert last == {id(one) for part in (deep.blocks()[-1], shallow.blocks()[-1]) for one in part.parameters()}
    assert {id(one) for one in blocks[0].parameters()} == {id(one) for one in deep.blocks()[0].parameters()}


def test_what_cannot_be_fused_is_refused(make: Make, tmp_path: Path) -> None:
    clip = make("clip")
    with pytest.raises(ConfigError, match="got 1 encoders; expected two or more"):
        FusedEncoder([clip])
    with pytest.raises(ConfigError, match="gives 17 tokens, which are no square grid"):
        FusedEncoder([clip, make("clip", select="cls_patch")])
    with pytest.raises(ConfigError, match="put FrozenFeatures around FusedEncoder"):
        FusedEncoder([clip, FrozenFeatures(make("clip"), folder=str(tmp_path))])
