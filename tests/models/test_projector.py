"""Projectors go from the encoder's width to the language model's, pool by averaging, and build from YAML."""

import json
from collections.abc import Callable

import pytest
import torch
from jsonargparse import auto_cli
from torch import nn
from transformers import Idefics3Config, SmolVLMConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMConnector

from mmmed.errors import ConfigError
from mmmed.models.projector import (
    GridPool,
    LinearProjector,
    MLPProjector,
    PixelShuffle,
    WordProjector,
    projected_tokens,
)


@pytest.mark.parametrize("projector", [LinearProjector(6, 10, pool=2), MLPProjector(6, 10, pool=2)])
def test_features_come_out_in_the_language_width(projector: nn.Module) -> None:
    assert projector(torch.randn(2, 16, 6)).shape == (2, 4, 10)
    assert projected_tokens(projector, tokens=16, width=6) == 4


def test_the_mlp_has_the_names_and_the_result_of_llava() -> None:
    projector = MLPProjector(6, 10)
    assert {name: tuple(parameter.shape) for name, parameter in projector.named_parameters()} == {
        "linear_1.weight": (10, 6),
        "linear_1.bias": (10,),
        "linear_2.weight": (10, 10),
        "linear_2.bias": (10,),
    }
    features = torch.randn(1, 4, 6)
    expected = nn.Sequential(projector.linear_1, nn.GELU(), projector.linear_2)(features)
    torch.testing.assert_close(projector(features), expected)
    assert MLPProjector(6, 10, hidden=3).linear_2.in_features == 3


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_an_mlp_of_any_depth_is_its_layers_in_order(layers: int) -> None:
    projector = MLPProjector(6, 10, hidden=7, layers=layers)
    linear = [getattr(projector, f"linear_{number}") for number in range(1, layers + 1)]
    assert [layer.in_features for layer in linear] == [6, 7, 7, 7][:layers]
    assert len(list(projector.parameters())) == 2 * layers
    hidden = features = torch.randn(1, 4, 6)
    for number, layer in enumerate(linear):
        hidden = layer(hidden if number == 0 else nn.functional.gelu(hidden))
    torch.testing.assert_close(projector(features), hidden)
    words = WordProjector(6, 10, hidden=7, layers=layers, scale=0.5)
    assert words(features).std(-1, correction=0).mean().item() == pytest.approx(0.5, rel=1e-3)


def test_an_mlp_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="MLP projector of 0 layers"):
        MLPProjector(6, 10, layers=0)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(
    ("connector", "config"), [(Idefics3Connector, Idefics3Config), (SmolVLMConnector, SmolVLMConfig)]
)
def test_pixel_shuffle_equals_the_connectors_of_idefics3_and_smolvlm(
    connector: type[nn.Module], config: type, factor: int
) -> None:
    text = {"model_type": "llama", "hidden_size": 10, "num_attention_heads": 1}
    theirs = connector(config(scale_factor=factor, vision_config={"hidden_size": 6}, text_config=text))
    ours = PixelShuffle(6, 10, factor=factor)
    ours.load_state_dict(theirs.modality_projection.state_dict())
    features = torch.randn(2, 64, 6)
    torch.testing.assert_close(ours(features), theirs(features), atol=1e-6, rtol=0)
    assert projected_tokens(ours, tokens=64, width=6) == 64 // factor**2


@pytest.mark.parametrize("tokens", [17, 9])
def test_pixel_shuffle_refuses_what_is_no_grid_of_its_squares(tokens: int) -> None:
    with pytest.raises(ConfigError, match=f"factor 2 does not fit {tokens} image tokens"):
        projected_tokens(PixelShuffle(6, 10, factor=2), tokens=tokens, width=6)


def test_a_shuffle_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="factor is 0"):
        PixelShuffle(6, 10, factor=0)


def test_pooling_averages_squares_of_neighbours() -> None:
    grid = torch.arange(16.0).reshape(1, 16, 1)  # rows 0..3, 4..7, 8..11, 12..15
    assert GridPool(2)(grid).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert GridPool(1)(grid) is grid


@pytest.mark.parametrize("tokens", [17, 9])
def test_pooling_refuses_what_is_no_grid_of_its_squares(tokens: int) -> None:
    with pytest.raises(ConfigError, match=f"pool 2 does not fit {tokens} image tokens"):
        projected_tokens(LinearProjector(6, 10, pool=2), tokens=tokens, width=6)


def test_a_pool_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="pool is 0"):
        GridPool(0)


def test_a_projector_of_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="LinearProjector does not take 4 image tokens of width 5"):
        projected_tokens(LinearProjector(6, 10), tokens=4, width=5)


def test_yaml_names_the_class_and_the_model_fills_in_the_widths() -> None:
    def build(projector: Callable[[int, int], nn.Module]) -> nn.Module:
        return projector(6, 10)

    values = {"class_path": "mmmed.models.projector.MLPProjector", "init_args": {"pool": 2}}
    projector = auto_cli(build, args=["--projector", json.dumps(values)], as_positional=False)
    assert isinstance(projector, MLPProjector)
    assert projector.pool.factor == 2
    assert projector(torch.randn(1, 16, 6)).shape == (1, 4, 10)
