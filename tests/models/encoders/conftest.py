"""What the tests of every encoder ask."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from mmmed.models.vision import VisionEncoder

TINY_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TINY_DINOV2 = {
    "model_type": "dinov2",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
TINY = {
    "clip": TINY_CLIP,
    "siglip": TINY_CLIP | {"model_type": "siglip_vision_model"},
    "siglip2": {key: value for key, value in TINY_CLIP.items() if key != "image_size"}
    | {"model_type": "siglip2_vision_model", "num_patches": 16},
    "dinov2": TINY_DINOV2,
    "vit": TINY_CLIP | {"model_type": "vit"},
}


@pytest.fixture
def tiny() -> dict[str, dict[str, object]]:
    """Configurations of transformers' image encoders that are built in no time."""
    return TINY


@pytest.fixture
def pixels() -> Callable[..., Tensor]:
    """Makes two noise pictures of the size that an encoder wants: `pixels(encoder)`."""
    import torch

    def make(encoder: VisionEncoder, *, seed: int = 0) -> Tensor:
        size = encoder.transform.size
        return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def check(pixels: Callable[..., Tensor]) -> Callable[[VisionEncoder], None]:
    """Asserts that shapes are as announced, and that no parameter is without gradient."""

    def asserts(encoder: VisionEncoder) -> None:
        features = encoder(pixels(encoder))
        assert features.shape == (2, encoder.tokens, encoder.width)
        features.square().sum().backward()
        assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []

    return asserts


@pytest.fixture
def check_rebuilt(pixels: Callable[..., Tensor]) -> Callable[[VisionEncoder], None]:
    """Asserts that recipe and weights together give the same encoder again."""
    import torch

    def asserts(encoder: VisionEncoder) -> None:
        recipe = encoder.recipe()
        module, _, name = recipe["class_path"].rpartition(".")
        again = getattr(import_module(module), name)(**recipe["init_args"]).eval()
        again.load_state_dict(encoder.state_dict())
        assert again.recipe() == recipe
        with torch.no_grad():
            assert torch.equal(again(pixels(encoder)), encoder.eval()(pixels(encoder)))

    return asserts
