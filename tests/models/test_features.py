"""A frozen encoder looks at each picture once."""

from pathlib import Path

import pytest
import torch

from mmmed.errors import OutputError
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.features import FrozenFeatures

CONFIG = {"model_type": "clip_vision_model", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def encoder(seed: int = 0) -> TransformersEncoder:
    torch.manual_seed(seed)
    return TransformersEncoder(weights=None, config=CONFIG | {"image_size": 32, "patch_size": 16}).eval()


def test_features_are_those_of_the_encoder_at_first_and_again(tmp_path: Path) -> None:
    plain, pixels = encoder(), torch.randn(3, 3, 32, 32)
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path))
    expected = plain(pixels)
    torch.testing.assert_close(frozen(pixels[:2]), expected[:2])
    torch.testing.assert_close(frozen(pixels), expected)
    frozen.encoder.model = None
    torch.testing.assert_close(frozen(pixels.flip(0)), expected.flip(0))
    assert (frozen.tokens, frozen.width) == (plain.tokens, plain.width)


def test_other_pixels_and_other_weights_are_looked_at_anew(tmp_path: Path) -> None:
    pixels = torch.randn(1, 3, 32, 32)
    first = FrozenFeatures(encoder(0), folder=str(tmp_path))(pixels)
    other = FrozenFeatures(encoder(1), folder=str(tmp_path))
    assert not torch.equal(other(pixels), first)
    assert not torch.equal(other(pixels + 1e-3), other(pixels))
    assert len(list(tmp_path.rglob("*.npy"))) == 3


def test_it_never_learns_and_never_drops(tmp_path: Path) -> None:
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path)).train()
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not any(module.training for module in frozen.modules())


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    frozen = FrozenFeatures(encoder(), folder=str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot keep image features in"):
        frozen(torch.randn(1, 3, 32, 32))
