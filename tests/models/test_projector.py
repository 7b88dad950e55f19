"""Projectors go from the encoder's width to the language model's, pool by averaging, and build from YAML."""

import json
from collections.abc import Callable

import pytest
import torch
from jsonargparse import auto_cli
from torch import nn

from mmmed.errors import ConfigError
from mmmed.models.projector import GridPool, LinearProjector, MLPProjector, projected_tokens


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
