"""Encoders give the features they say they give, and every parameter they keep is used."""

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from mmmed.errors import CheckpointError, ConfigError, WeightsError
from mmmed.models.vision import OpenClipEncoder, Select, TimmEncoder, TransformersEncoder, VisionEncoder

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


def pixels(encoder: VisionEncoder, *, seed: int = 0) -> Tensor:
    size = encoder.transform.size
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def check(encoder: VisionEncoder) -> None:
    """Shapes are as announced, and no parameter is without gradient."""
    features = encoder(pixels(encoder))
    assert features.shape == (2, encoder.tokens, encoder.width)
    features.square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []


@pytest.fixture
def tiny_clip(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = CLIPVisionConfig(**{key: value for key, value in TINY_CLIP.items() if key != "model_type"})
    CLIPVisionModel(config).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.mark.parametrize(
    ("architecture", "settings", "tokens", "width"),
    [
        ("vit_tiny_patch16_224", {"layer": 2, "size": 64}, 16, 192),
        ("vit_tiny_patch16_224", {"layer": 2, "size": 64, "select": "cls_patch"}, 17, 192),
        ("vit_tiny_patch16_224", {"layer": "final", "size": 32}, 4, 192),
        ("vit_small_patch14_reg4_dinov2", {"layer": 1, "size": 56, "select": "cls_patch"}, 17, 384),
        ("tf_efficientnet_lite0", {"size": 64}, 4, 320),
        ("tf_efficientnet_lite0", {"layer": -2}, 196, 112),
        ("tf_efficientnet_lite0", {"layer": "final", "size": 64}, 4, 1280),
        ("swin_tiny_patch4_window7_224", {"layer": "final"}, 49, 768),
    ],
)
def test_timm_gives_the_tokens_of_the_chosen_layer(
    architecture: str, settings: dict[str, object], tokens: int, width: int
) -> None:
    encoder = TimmEncoder(architecture, weights=None, **settings)
    assert (encoder.tokens, encoder.width) == (tokens, width)
    check(encoder)


@pytest.mark.parametrize(
    ("architecture", "select", "tokens"),
    [("ViT-S-32-alt", "patch", 4), ("ViT-S-32-alt", "cls_patch", 5), ("ViT-B-16-SigLIP", "patch", 16)],
)
def test_open_clip_gives_the_tokens_of_the_chosen_layer(architecture: str, select: Select, tokens: int) -> None:
    encoder = OpenClipEncoder(architecture, weights=None, layer=0, size=64, select=select)
    assert encoder.tokens == tokens
    check(encoder)


def test_open_clip_loads_the_image_side_of_a_folder_that_describes_itself(tmp_path: Path) -> None:
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision}, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    tower = open_clip.model._build_vision_tower(8, vision)
    state = {f"visual.{key}": value for key, value in tower.state_dict().items()} | {"logit_scale": torch.ones(())}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    encoder = OpenClipEncoder(None, weights=str(tmp_path), layer=-1).eval()
    assert encoder.transform.mean == (0.1, 0.2, 0.3)
    taken: list[Tensor] = []
    tower.transformer.resblocks[-1].register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    with torch.no_grad():
        tower.eval()(pixels(encoder))
        torch.testing.assert_close(encoder(pixels(encoder)), taken[0][:, 1:])
    larger = OpenClipEncoder(None, weights=str(tmp_path), layer=-1, size=64)
    assert larger.tokens == 16
    check(larger)


@pytest.mark.parametrize("config", [TINY_CLIP, TINY_CLIP | {"model_type": "siglip_vision_model"}, TINY_DINOV2])
@pytest.mark.parametrize("size", [None, 56])
def test_transformers_gives_the_tokens_of_the_chosen_layer(config: dict[str, object], size: int | None) -> None:
    encoder = TransformersEncoder(weights=None, config=config, size=size)
    assert encoder.tokens == ((size or config["image_size"]) // config["patch_size"]) ** 2
    assert encoder.width == 32
    check(encoder)


def test_clip_features_are_those_of_llava(tiny_clip: Path) -> None:
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


def test_timm_features_are_those_of_the_whole_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
    save_file(whole.state_dict(), tmp_path / "vit.safetensors")
    encoder = TimmEncoder("vit_tiny_patch16_224", weights=str(tmp_path / "vit.safetensors"), layer=3).eval()
    taken: list[Tensor] = []
    whole.blocks[3].register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    with torch.no_grad():
        whole(pixels(encoder))
        torch.testing.assert_close(encoder(pixels(encoder)), taken[0][:, 1:])
    assert len(encoder.model.blocks) == 4


def test_the_transform_is_that_of_the_weights() -> None:
    transform = TimmEncoder("tf_efficientnet_lite0", weights=None, fill="mean").transform
    assert (transform.size, transform.mean, transform.std) == (224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert transform.interpolation == "bicubic"
    assert transform.fill == transform.mean
    clip = TransformersEncoder(weights=None, config=TINY_CLIP).transform
    assert clip.mean[0] == pytest.approx(0.48145466)
    assert clip.fill == (0.0, 0.0, 0.0)


def test_a_frozen_encoder_keeps_its_statistics_in_training() -> None:
    encoder = TimmEncoder("tf_efficientnet_lite0", weights=None, layer=0, size=32).requires_grad_(False).train()
    before = encoder(pixels(encoder))
    torch.testing.assert_close(encoder(pixels(encoder)), before)
    assert not any(module.training for module in encoder.modules())
    assert encoder.requires_grad_(True).train().training


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimmEncoder("vit_tiny_patch16_242", weights=None), r"did you mean 'vit_tiny_patch16_224'"),
        (lambda: TimmEncoder("resnet18", weights=None, layer=5), r"layer 5 of resnet18 .* -5 to 4"),
        (lambda: TimmEncoder("resnet18", weights=None, select="cls_patch"), "no class token"),
        (lambda: TimmEncoder("vit_tiny_patch16_224", weights=None, size=65), "images of size 65"),
        (lambda: OpenClipEncoder("ViT-S-32-alt", weights=None, size=65), "images of size 65"),
        (lambda: TransformersEncoder(weights=None, config=TINY_CLIP, size=65), "set size: 64"),
        (lambda: TimmEncoder("resnet18", weights="timm:resnet34.a1_in1k"), "set architecture: resnet34"),
        (lambda: OpenClipEncoder("ViT-B-161", weights=None), "did you mean 'ViT-B-16'"),
        (lambda: OpenClipEncoder("RN50", weights=None), "ResNets"),
        (lambda: OpenClipEncoder(None, weights=None), "open_clip_config.json"),
        (lambda: TransformersEncoder(weights=None), "not both"),
        (lambda: TransformersEncoder(weights=None, config={"model_type": "dino2"}), "did you mean 'dinov2'"),
        (lambda: TransformersEncoder(weights=None, config=TINY_CLIP, layer=-4), "layer -4"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    make: Callable[[], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmmed.models.weights.convert.resolve", Path)  # nothing is to be fetched
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_refused_with_their_names(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", pretrained=False).state_dict()
    state["conv2.weight"] = state.pop("conv1.weight")
    state["bn1.weight"] = torch.zeros(3)
    save_file(state, tmp_path / "wrong.safetensors")
    with pytest.raises(
        CheckpointError, match=r"1 missing \(conv1.weight\); 1 unexpected \(conv2.weight\); 1 of another"
    ):
        TimmEncoder("resnet18", weights=str(tmp_path / "wrong.safetensors"))


def test_another_classifier_does_not_matter(tmp_path: Path) -> None:
    save_file(timm.create_model("resnet18", pretrained=False, num_classes=5).state_dict(), tmp_path / "w.safetensors")
    TimmEncoder("resnet18", weights=str(tmp_path / "w.safetensors"))


def test_transformers_weights_with_a_layer_too_few_are_refused(tiny_clip: Path) -> None:
    config = (tiny_clip / "config.json").read_text()
    (tiny_clip / "config.json").write_text(config.replace('"num_hidden_layers": 3', '"num_hidden_layers": 4'))
    with pytest.raises(CheckpointError, match="missing"):
        TransformersEncoder(weights=str(tiny_clip))
    (tiny_clip / "config.json").write_text(config.replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
    with pytest.raises(CheckpointError, match="unexpected"):
        TransformersEncoder(weights=str(tiny_clip))


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no configuration"):
        TransformersEncoder(weights=str(tmp_path))
