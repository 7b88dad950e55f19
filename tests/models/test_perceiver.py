"""The perceiver resampler is that of Idefics2, and gives as many tokens for any image."""

import pytest
import torch
from transformers import Idefics2Config
from transformers.models.idefics2.modeling_idefics2 import Idefics2Connector

from mmmed.errors import ConfigError
from mmmed.models.perceiver import PerceiverResampler
from mmmed.models.projector import projected_tokens

SIZES = {"latents": 3, "depth": 2, "heads": 4, "head_width": 6, "key_value_heads": 2, "hidden": 20}


def connector() -> Idefics2Connector:
    perceiver = {"hidden_size": 16, "resampler_n_latents": 3, "resampler_depth": 2, "resampler_n_heads": 4}
    config = Idefics2Config(
        vision_config={"hidden_size": 12},
        text_config={"model_type": "mistral", "hidden_size": 16, "intermediate_size": 20, "rms_norm_eps": 1e-6},
        perceiver_config=perceiver | {"resampler_head_dim": 6, "num_key_value_heads": 2},
    )
    return Idefics2Connector(config).eval()


def test_it_equals_the_connector_of_idefics2_on_the_same_weights() -> None:
    torch.manual_seed(0)
    theirs, ours = connector(), PerceiverResampler(12, 16, **SIZES)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    features = torch.randn(2, 9, 12)
    with torch.no_grad():
        expected = theirs(features, torch.ones(2, 9, dtype=torch.long))
        torch.testing.assert_close(ours(features), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


def test_the_tokens_are_as_many_for_any_image() -> None:
    resampler = PerceiverResampler(12, 16, **SIZES)
    assert [projected_tokens(resampler, tokens=tokens, width=12) for tokens in (1, 9, 50)] == [3, 3, 3]


def test_latents_start_apart_and_so_do_the_tokens() -> None:
    torch.manual_seed(0)
    tokens = PerceiverResampler(12, 16, **SIZES)(torch.randn(1, 9, 12))
    assert (tokens[0, 0] - tokens[0, 1]).abs().max() > 1e-2


def test_heads_that_cannot_share_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 heads cannot share 3 key_value_heads"):
        PerceiverResampler(12, 16, **SIZES | {"key_value_heads": 3})
