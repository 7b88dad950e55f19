"""open_clip's towers give the features they say they give, and every parameter that is kept is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.factory import load_checkpoint
from open_clip.model import CLIP, _build_vision_tower
from safetensors.torch import save_file
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.encoders.open_clip import OpenClipEncoder
from mmmed.models.vision import Select, VisionEncoder

Check = Callable[[VisionEncoder], None]
Pixels = Callable[..., Tensor]

VISION = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
COCA = VISION | {"attentional_pool": True, "attn_pooler_queries": 6, "attn_pooler_heads": 2, "output_tokens": True}
TEXT = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}


def written(folder: Path, model: dict[str, Any], tower: nn.Module, **preprocessing: Any) -> str:
    """A folder as open_clip publishes models, with a text side that is not to be read."""
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocessing}))
    state = {f"visual.{key}": value for key, value in tower.state_dict().items()}
    save_file(state | {"logit_scale": torch.ones(())}, folder / "open_clip_model.safetensors")
    return str(folder)


@pytest.mark.parametrize(
    ("architecture", "layer", "select", "tokens"),
    [
        ("ViT-S-32-alt", 0, "patch", 4),
        ("ViT-S-32-alt", 0, "cls_patch", 5),
        ("ViT-S-32-alt", "final", "cls_patch", 5),
        ("ViT-S-32-alt", "final", "pooled", 1),
        ("ViT-B-16-SigLIP", 0, "patch", 16),
    ],
)
def test_the_tokens_are_those_of_the_chosen_layer(
    architecture: str, layer: Any, select: Select, tokens: int, check: Check
) -> None:
    encoder = OpenClipEncoder(architecture, weights=None, layer=layer, size=64, select=select)
    assert encoder.tokens == tokens
    check(encoder)


@pytest.mark.parametrize(
    ("architecture", "settings", "tokens", "width"),
    [
        ("ViT-B-16", {"layer": -2}, 196, 768),
        ("ViT-B-16", {"layer": "final", "select": "pooled"}, 1, 768),
        ("ViT-L-14-336", {"layer": -2, "select": "cls_patch"}, 577, 1024),
        ("ViT-B-16-SigLIP", {"layer": "final", "select": "pooled"}, 1, 768),
        ("ViT-B-16-SigLIP2", {"layer": -2}, 196, 768),
        ("coca_ViT-B-32", {"layer": -2}, 49, 768),
        ("coca_ViT-B-32", {"layer": "final"}, 255, 512),
        ("coca_ViT-B-32", {"layer": "final", "select": "pooled"}, 1, 512),
    ],
)
def test_the_architectures_of_the_field_are_built_in_their_own_size(
    architecture: str, settings: dict[str, Any], tokens: int, width: int
) -> None:
    with torch.device("meta"):
        encoder = OpenClipEncoder(architecture, weights=None, **settings)
    assert (encoder.tokens, encoder.width) == (tokens, width)
    assert len(encoder.blocks()) in (11, 12, 23)


def test_the_image_side_of_a_folder_that_describes_itself_is_loaded(
    tmp_path: Path, pixels: Pixels, check: Check
) -> None:
    tower = _build_vision_tower(8, VISION)
    weights = written(tmp_path, {"embed_dim": 8, "vision_cfg": VISION}, tower, mean=[0.1, 0.2, 0.3])
    encoder = OpenClipEncoder(None, weights=weights, layer=-1).eval()
    assert encoder.transform.mean == (0.1, 0.2, 0.3)
    taken: list[Tensor] = []
    tower.transformer.resblocks[-1].register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    with torch.no_grad():
        tower.eval()(pixels(encoder))
        torch.testing.assert_close(encoder(pixels(encoder)), taken[0][:, 1:])
    larger = OpenClipEncoder(None, weights=weights, layer=-1, size=64)
    assert larger.tokens == 16
    check(larger)


@pytest.mark.parametrize("vision", [VISION, VISION | {"pool_type": "avg", "final_ln_after_pool": True}, COCA])
def test_the_pooled_token_is_what_is_projected_beside_text(
    vision: dict[str, Any], tmp_path: Path, pixels: Pixels, check: Check
) -> None:
    torch.manual_seed(0)
    tower = _build_vision_tower(8, vision).eval()
    tower.output_tokens = False
    weights = written(tmp_path, {"embed_dim": 8, "vision_cfg": vision}, tower)
    encoder = OpenClipEncoder(None, weights=weights, layer="final", select="pooled").eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels(encoder))[:, 0] @ tower.proj, tower(pixels(encoder)))
    check(encoder)


def test_the_final_tokens_of_coca_are_those_that_it_captions_from(tmp_path: Path, pixels: Pixels, check: Check) -> None:
    torch.manual_seed(0)
    tower = _build_vision_tower(8, COCA).eval()
    weights = written(tmp_path, {"embed_dim": 8, "vision_cfg": COCA}, tower)
    encoder = OpenClipEncoder(None, weights=weights, layer="final").eval()
    assert (encoder.tokens, encoder.width) == (5, 8)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels(encoder)), tower(pixels(encoder))[1])
    check(encoder)


def test_the_final_tokens_of_clip_are_normed(tmp_path: Path, pixels: Pixels, check: Check) -> None:
    torch.manual_seed(0)
    tower = _build_vision_tower(8, VISION).eval()
    tower.output_tokens = True
    nn.init.normal_(tower.ln_post.weight)
    weights = written(tmp_path, {"embed_dim": 8, "vision_cfg": VISION}, tower)
    encoder = OpenClipEncoder(None, weights=weights, layer="final").eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels(encoder)), tower(pixels(encoder))[1])
    check(encoder)


def test_positions_are_interpolated_as_open_clip_does_on_loading(tmp_path: Path, pixels: Pixels) -> None:
    torch.manual_seed(0)
    small, large = (CLIP(8, VISION | {"image_size": size}, TEXT).eval() for size in (32, 80))
    save_file(small.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 8, "vision_cfg": VISION}}))
    load_checkpoint(large, str(tmp_path / "open_clip_model.safetensors"))
    encoder = OpenClipEncoder(None, weights=str(tmp_path), layer="final", select="pooled", size=80).eval()
    with torch.no_grad():
        ours = encoder(pixels(encoder))[:, 0] @ large.visual.proj
        torch.testing.assert_close(ours, large.visual(pixels(encoder)))


def test_a_folder_laid_out_as_biomedclip_is_read_and_can_be_saved(
    tmp_path: Path, pixels: Pixels, check_rebuilt: Check
) -> None:
    torch.manual_seed(0)
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False, "timm_pool": ""}
    vision |= {"timm_proj": "linear", "image_size": 224}
    model = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": {"hf_model_name": "bert", "proj": "mlp"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    trunk = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    state = {f"visual.trunk.{key}": value for key, value in trunk.state_dict().items()}
    state |= {"visual.head.proj.weight": torch.ones(8, 192), "text.transformer.x": torch.ones(1)}
    torch.save(state | {"logit_scale": torch.ones(())}, tmp_path / "open_clip_pytorch_model.bin")
    encoder = OpenClipEncoder(None, weights=str(tmp_path), layer="final", select="pooled").eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels(encoder))[:, 0], trunk(pixels(encoder)))
    check_rebuilt(encoder)
    check_rebuilt(OpenClipEncoder(None, weights=str(tmp_path), layer=1, size=64))


def test_the_approximate_gelu_of_the_weights_stays_in_the_recipe(
    tmp_path: Path, pixels: Pixels, check_rebuilt: Check
) -> None:
    torch.manual_seed(0)
    tower = _build_vision_tower(8, VISION, True).eval()
    weights = written(tmp_path, {"embed_dim": 8, "vision_cfg": VISION, "quick_gelu": True}, tower)
    encoder = OpenClipEncoder(None, weights=weights, layer="final", select="pooled").eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels(encoder))[:, 0] @ tower.proj, tower(pixels(encoder)))
    assert encoder.recipe()["init_args"]["config"]["quick_gelu"]
    check_rebuilt(encoder)


def test_a_tag_that_says_approximate_gelu_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = open_clip.get_model_config("ViT-S-32-alt")
    tower = _build_vision_tower(config["embed_dim"], config["vision_cfg"], True)
    save_file({f"visual.{key}": value for key, value in tower.state_dict().items()}, tmp_path / "w.safetensors")
    monkeypatch.setattr("mmmed.models.encoders.open_clip.resolve", lambda reference: tmp_path / "w.safetensors")
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda architecture, tag: {"quick_gelu": True})
    encoder = OpenClipEncoder("ViT-S-32-alt", weights="open_clip:ViT-S-32-alt/openai", layer=0)
    assert encoder.recipe()["init_args"]["config"]["quick_gelu"]


def test_blocks_are_named_from_first_to_last() -> None:
    encoder = OpenClipEncoder(None, weights=None, config={"embed_dim": 8, "vision_cfg": VISION}, layer="final")
    first, last = encoder.blocks()
    assert first is encoder.model.transformer.resblocks[0]
    assert {id(one) for one in last.parameters()} == {
        id(one) for part in (encoder.model.transformer.resblocks[1], encoder.model.ln_post) for one in part.parameters()
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OpenClipEncoder("ViT-S-32-alt", weights=None, size=65), "images of size 65"),
        (lambda: OpenClipEncoder("ViT-S-32-alt", weights=None, select="pooled"), "set layer: final, not -2"),
        (lambda: OpenClipEncoder("ViT-B-161", weights=None), "did you mean 'ViT-B-16'"),
        (lambda: OpenClipEncoder("RN50", weights=None), "ResNets"),
        (lambda: OpenClipEncoder(None, weights=None), "open_clip_config.json"),
        (lambda: OpenClipEncoder(None, weights=None, config={"embed_dim": 8}), "has embed_dim and vision_cfg"),
        (
            lambda: OpenClipEncoder(
                None, weights=None, config={"embed_dim": 8, "vision_cfg": COCA}, layer="final", select="cls_patch"
            ),
            "no class token",
        ),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
