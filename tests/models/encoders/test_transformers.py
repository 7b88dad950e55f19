"""transformers' models give the features they say they give, and every parameter that is kept is used."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.siglip2.image_processing_siglip2 import Siglip2ImageProcessor

from mmmed.errors import CheckpointError, ConfigError, WeightsError
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.vision import VisionEncoder

Check = Callable[[VisionEncoder], None]
Pixels = Callable[..., Tensor]
Tiny = dict[str, dict[str, Any]]
FAMILIES = ["clip", "siglip", "siglip2", "dinov2", "vit"]


def saved(folder: Path, config: dict[str, Any]) -> Any:
    """The whole model of transformers, at random and kept in a folder."""
    torch.manual_seed(0)
    values = dict(config)
    model = AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values)).eval()
    for name, parameter in model.named_parameters():
        # Norms and positions start too alike for a mistake to show.
        if "norm" in name or "position" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    return model


def patched(pixels_BCHW: Tensor, patch: int) -> dict[str, Any]:
    """What SigLIP 2 is given, made by its own image processor."""
    processor = Siglip2ImageProcessor(
        patch_size=patch,
        max_num_patches=(pixels_BCHW.shape[-1] // patch) ** 2,
        do_rescale=False,
        do_normalize=False,
        do_convert_rgb=False,
    )
    made = processor(list(pixels_BCHW), return_tensors="pt")
    return {"pixel_values": made.pixel_values, "spatial_shapes": made.spatial_shapes} | {
        "pixel_attention_mask": made.pixel_attention_mask
    }


def run(model: Any, pixels_BCHW: Tensor) -> Any:
    """The model's own output at any size."""
    if model.config.model_type == "siglip2_vision_model":
        return model(**patched(pixels_BCHW, model.config.patch_size))
    told = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    return model(pixels_BCHW, **({"interpolate_pos_encoding": True} if told else {}))


@pytest.fixture
def tiny_clip(tmp_path: Path, tiny: Tiny) -> Path:
    torch.manual_seed(0)
    config = CLIPVisionConfig(**{key: value for key, value in tiny["clip"].items() if key != "model_type"})
    CLIPVisionModel(config).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "settings",
    [{}, {"size": 56}, {"layer": "final"}, {"layer": "final", "select": "pooled"}],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_the_tokens_are_those_of_the_chosen_layer(
    family: str, settings: dict[str, Any], tiny: Tiny, check: Check, check_rebuilt: Check
) -> None:
    config = tiny[family]
    encoder = TransformersEncoder(weights=None, config=config, **settings)
    side = settings.get("size") or config.get("image_size", 32)
    assert encoder.tokens == (1 if "select" in settings else (side // config["patch_size"]) ** 2)
    assert encoder.width == 32
    check(encoder)
    check_rebuilt(encoder)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [None, 56])
def test_pooled_and_final_are_those_of_transformers_at_any_size(
    family: str, size: int | None, tiny: Tiny, tmp_path: Path, pixels: Pixels
) -> None:
    whole = saved(tmp_path, tiny[family])
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    pooled = TransformersEncoder(weights=str(tmp_path), layer="final", select="pooled", size=size).eval()
    final = TransformersEncoder(weights=str(tmp_path), layer="final", size=size).eval()
    images = pixels(pooled)
    with torch.no_grad():
        theirs = run(whole, images)
        hidden = theirs.last_hidden_state[:, -final.tokens :]
        if family == "clip":
            hidden = whole.post_layernorm(hidden)
        torch.testing.assert_close(pooled(images)[:, 0], theirs.pooler_output, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(final(images), hidden, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "tokens", "width"),
    [
        ({"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336, "patch_size": 14}, 576, 1024),
        ({"model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 448, "patch_size": 14}, 1024, 1152),
        ({"model_type": "siglip2_vision_model", "num_patches": 256}, 256, 768),
        ({"model_type": "dinov2", "image_size": 518, "patch_size": 14}, 1369, 768),
        ({"model_type": "dinov2_with_registers", "image_size": 518, "patch_size": 14}, 1369, 768),
    ],
    ids=["clip-l-336", "medsiglip", "siglip2", "rad-dino", "dinov2-registers"],
)
def test_the_architectures_of_the_field_are_built_in_their_own_size(
    config: dict[str, Any], tokens: int, width: int
) -> None:
    heads = {"num_attention_heads": 16} if width > 768 else {}
    with torch.device("meta"):
        encoder = TransformersEncoder(weights=None, config=config | heads)
    assert (encoder.tokens, encoder.width) == (tokens, width)
    assert len(encoder.blocks()) == 11


def test_clip_features_are_those_of_llava(tiny_clip: Path, pixels: Pixels) -> None:
    encoder = TransformersEncoder(weights=str(tiny_clip), layer=-2, select="patch").eval()
    language = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    vision = CLIPVisionModel.from_pretrained(tiny_clip)
    llava = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision.config, text_config=language)).eval()
    llava.model.vision_tower.load_state_dict(vision.state_dict())
    llava.model.multi_modal_projector = torch.nn.Identity()
    with torch.no_grad():
        seen = llava.get_image_features(
            pixels(encoder), vision_feature_layer=-2, vision_feature_select_strategy="default"
        )
        reference = torch.stack(list(seen.pooler_output if hasattr(seen, "pooler_output") else seen))
        torch.testing.assert_close(encoder(pixels(encoder)), reference, atol=1e-4, rtol=0)
        hidden = vision.eval()(pixels(encoder), output_hidden_states=True).hidden_states[-2]
        torch.testing.assert_close(encoder(pixels(encoder)), hidden[:, 1:], atol=1e-6, rtol=0)


def test_the_transform_is_that_of_the_family(tiny: Tiny) -> None:
    clip = TransformersEncoder(weights=None, config=tiny["clip"]).transform
    assert clip.mean[0] == pytest.approx(0.48145466)
    assert clip.fill == clip.mean


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_named_from_first_to_last(family: str, tiny: Tiny) -> None:
    encoder = TransformersEncoder(weights=None, config=tiny[family], layer="final", select="pooled")
    blocks = encoder.blocks()
    assert len(blocks) == 3
    kept = {id(one) for block in blocks for one in block.parameters()}
    outside = {name.split(".")[1] for name, one in encoder.named_parameters() if id(one) not in kept}
    assert outside <= {"embeddings", "pre_layrnorm"}
    # The last brings the norm and the head with it.
    assert len(list(blocks[2].parameters())) > len(list(blocks[1].parameters()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "clip", "size": 65}, "set size: 64"),
        ({"family": "clip", "layer": -4}, "layer -4"),
        ({"family": "clip", "select": "pooled"}, "set layer: final, not -2"),
        ({"family": "siglip2", "select": "cls_patch"}, "no class token"),
        ({}, "not both"),
        ({"config": {"model_type": "dino2"}}, "did you mean 'dinov2'"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(settings: dict[str, Any], message: str, tiny: Tiny) -> None:
    arguments = dict(settings)
    if "family" in arguments:
        arguments["config"] = tiny[arguments.pop("family")]
    with pytest.raises(ConfigError, match=message) as caught:
        TransformersEncoder(weights=None, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "whole"), [(CLIPConfig, CLIPModel), (SiglipConfig, SiglipModel)])
def test_the_image_side_is_taken_out_of_a_model_of_two_sides(
    kind: type, whole: type, tiny: Tiny, tmp_path: Path, pixels: Pixels
) -> None:
    torch.manual_seed(0)
    side = {key: value for key, value in tiny["clip"].items() if key != "model_type"}
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16}
    model = whole(kind(vision_config=side, text_config=text)).eval()
    model.save_pretrained(tmp_path)
    encoder = TransformersEncoder(weights=str(tmp_path), layer="final", select="pooled").eval()
    with torch.no_grad():
        theirs = model.vision_model(pixels(encoder)).pooler_output
        torch.testing.assert_close(encoder(pixels(encoder))[:, 0], theirs)


def test_weights_with_a_layer_too_few_are_refused(tiny_clip: Path) -> None:
    config = (tiny_clip / "config.json").read_text()
    (tiny_clip / "config.json").write_text(config.replace('"num_hidden_layers": 3', '"num_hidden_layers": 4'))
    with pytest.raises(CheckpointError, match="missing"):
        TransformersEncoder(weights=str(tiny_clip))
    (tiny_clip / "config.json").write_text(config.replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
    with pytest.raises(CheckpointError, match="unexpected"):
        TransformersEncoder(weights=str(tiny_clip))


def test_a_head_that_is_not_in_the_weights_is_missed_only_where_it_is_used(tiny: Tiny, tmp_path: Path) -> None:
    whole = saved(tmp_path, tiny["vit"])
    headless = {key: value for key, value in whole.state_dict().items() if not key.startswith("pooler")}
    whole.save_pretrained(tmp_path, state_dict=headless)
    TransformersEncoder(weights=str(tmp_path), layer="final")
    with pytest.raises(CheckpointError, match=r"2 missing \(pooler.dense.bias"):
        TransformersEncoder(weights=str(tmp_path), layer="final", select="pooled")


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no configuration"):
        TransformersEncoder(weights=str(tmp_path))
