"""A frozen Q-Former behind an encoder reads as BLIP-2's does, and travels with the model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Blip2Config, Blip2Model, Blip2QFormerConfig, Blip2VisionConfig, OPTConfig

from mmmed.errors import CheckpointError, ConfigError
from mmmed.models.encoders.queried import QueriedEncoder
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.features import FrozenFeatures

CLIP = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
CLIP |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
SIZES = {"queries": 5, "width": 24, "layers": 3, "heads": 2}


def encoder(seed: int = 0) -> TransformersEncoder:
    torch.manual_seed(seed)
    return TransformersEncoder(weights=None, config=CLIP, select="cls_patch").eval()


@pytest.fixture
def blip2() -> Blip2Model:
    torch.manual_seed(1)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            hidden_size=24, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2, encoder_hidden_size=32
        ).to_dict(),
        text_config=OPTConfig(
            hidden_size=16,
            ffn_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=20,
            word_embed_proj_dim=16,
        ).to_dict(),
        num_query_tokens=5,
    )
    model = Blip2Model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_the_queries_read_what_those_of_blip2_read(blip2: Blip2Model, tmp_path: Path) -> None:
    blip2.save_pretrained(tmp_path)
    queried = QueriedEncoder(encoder(), weights=str(tmp_path), **SIZES).eval()
    assert (queried.tokens, queried.width) == (5, 24)
    pixels_BCHW = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        features_BNW = blip2.vision_model.post_layernorm(encoder()(pixels_BCHW))
        expected_BQD = blip2.qformer(
            query_embeds=blip2.query_tokens.expand(2, -1, -1), encoder_hidden_states=features_BNW
        ).last_hidden_state
        torch.testing.assert_close(queried(pixels_BCHW), expected_BQD, atol=1e-5, rtol=0)


def test_weights_that_lack_a_tensor_or_have_one_too_many_are_refused(blip2: Blip2Model, tmp_path: Path) -> None:
    blip2.save_pretrained(tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    save_file({key: value for key, value in whole.items() if key != "query_tokens"}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing \(query_tokens\)"):
        QueriedEncoder(encoder(), weights=str(tmp_path), **SIZES)
    save_file(whole | {"qformer.more": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"1 unexpected \(qformer.more\)"):
        QueriedEncoder(encoder(), weights=str(tmp_path), **SIZES)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no safetensors files"):
        QueriedEncoder(encoder(), weights=str(tmp_path), **SIZES)


def test_its_recipe_builds_the_same_architecture() -> None:
    queried = QueriedEncoder(encoder(), weights=None, **SIZES).eval()
    arguments = queried.recipe()["init_args"]
    inner = TransformersEncoder(**arguments.pop("encoder")["init_args"])
    again = QueriedEncoder(inner, **arguments).eval()
    again.load_state_dict(queried.state_dict())
    pixels_BCHW = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(again(pixels_BCHW), queried(pixels_BCHW))


def test_the_last_block_is_the_q_former_with_its_queries() -> None:
    queried = QueriedEncoder(encoder(), weights=None, **SIZES)
    last = {id(parameter) for parameter in queried.blocks()[-1].parameters()}
    own = {id(one) for name, one in queried.named_parameters() if not name.startswith("encoder.")}
    assert last == own


def test_an_encoder_whose_features_are_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="put FrozenFeatures around QueriedEncoder"):
        QueriedEncoder(FrozenFeatures(encoder(), folder=str(tmp_path)), weights=None)
