"""timm's models give the features they say they give, and every parameter that is kept is used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from mmmed.errors import CheckpointError, ConfigError
from mmmed.models.encoders.timm import TimmEncoder
from mmmed.models.vision import VisionEncoder

Check = Callable[[VisionEncoder], None]
Pixels = Callable[..., Tensor]


@pytest.mark.parametrize(
    ("architecture", "settings", "tokens", "width"),
    [
        ("vit_tiny_patch16_224", {"layer": 2, "size": 64}, 16, 192),
        ("vit_tiny_patch16_224", {"layer": 2, "size": 64, "select": "cls_patch"}, 17, 192),
        ("vit_tiny_patch16_224", {"layer": "final", "size": 32}, 4, 192),
        ("vit_tiny_patch16_224", {"layer": "final", "size": 32, "select": "pooled"}, 1, 192),
        ("vit_small_patch14_reg4_dinov2", {"layer": 1, "size": 56, "select": "cls_patch"}, 17, 384),
        ("tf_efficientnet_lite0", {"size": 64}, 4, 320),
        ("tf_efficientnet_lite0", {"layer": -2}, 196, 112),
        ("tf_efficientnet_lite0", {"layer": "final", "size": 64}, 4, 1280),
        ("tf_efficientnet_lite0", {"layer": "final", "size": 64, "select": "pooled"}, 1, 1280),
        ("convnext_atto", {"size": 64}, 4, 320),
        ("convnext_atto", {"layer": "final", "size": 64}, 4, 320),
        ("convnext_atto", {"layer": "final", "size": 64, "select": "pooled"}, 1, 320),
        ("swin_tiny_patch4_window7_224", {"layer": "final"}, 49, 768),
    ],
)
def test_the_tokens_are_those_of_the_chosen_layer(
    architecture: str, settings: dict[str, Any], tokens: int, width: int, check: Check
) -> None:
    encoder = TimmEncoder(architecture, weights=None, **settings)
    assert (encoder.tokens, encoder.width) == (tokens, width)
    check(encoder)


@pytest.mark.parametrize(
    ("architecture", "select", "tokens", "width"),
    [
        ("vit_base_patch16_224", "cls_patch", 197, 768),
        ("vit_small_patch14_dinov2", "cls_patch", 1370, 384),
        ("vit_small_patch16_dinov3", "cls_patch", 257, 384),
        ("vit_small_patch16_dinov3", "pooled", 1, 384),
        ("vit_base_patch16_siglip_224", "pooled", 1, 768),
        ("convnext_base", "patch", 49, 1024),
        ("convnextv2_tiny", "pooled", 1, 768),
        ("efficientnet_b0", "patch", 49, 1280),
    ],
)
def test_the_architectures_of_the_field_are_built_in_their_own_size(
    architecture: str, select: Any, tokens: int, width: int
) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(architecture, weights=None, layer="final", select=select)
    assert (encoder.tokens, encoder.width) == (tokens, width)
    assert len(encoder.blocks()) > 3


def test_features_are_those_of_the_whole_model(tmp_path: Path, pixels: Pixels) -> None:
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


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "convnext_atto", "tf_efficientnet_lite0"])
def test_the_pooled_token_is_what_the_classifier_is_given(architecture: str, tmp_path: Path, pixels: Pixels) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(architecture, pretrained=False).eval()
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    weights = str(tmp_path / "whole.safetensors")
    encoder = TimmEncoder(architecture, weights=weights, layer="final", select="pooled").eval()
    given: list[Tensor] = []
    whole.get_classifier().register_forward_hook(lambda _module, inputs, _output: given.append(inputs[0]))
    with torch.no_grad():
        whole(pixels(encoder))
        torch.testing.assert_close(encoder(pixels(encoder))[:, 0], given[0])


def test_positions_are_interpolated_as_timm_does_on_loading(tmp_path: Path, pixels: Pixels) -> None:
    torch.manual_seed(0)
    state = timm.create_model("vit_tiny_patch16_224", pretrained=False).state_dict()
    state["pos_embed"] *= 50
    save_file(state, tmp_path / "vit.safetensors")
    encoder = TimmEncoder("vit_tiny_patch16_224", weights=str(tmp_path / "vit.safetensors"), layer="final", size=96)
    theirs = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=96).eval()
    theirs.load_state_dict(checkpoint_filter_fn(state, theirs))
    with torch.no_grad():
        expected = theirs.forward_features(pixels(encoder))[:, 1:]
        torch.testing.assert_close(encoder.eval()(pixels(encoder)), expected)


def test_the_transform_is_that_of_the_weights() -> None:
    transform = TimmEncoder("tf_efficientnet_lite0", weights=None, fill="mean").transform
    assert (transform.size, transform.mean, transform.std) == (224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert transform.interpolation == "bicubic"
    assert transform.fill == transform.mean


def test_a_tag_stays_in_the_recipe_with_its_normalisation() -> None:
    plain = TimmEncoder("vit_tiny_patch16_224", weights=None, layer=0)
    tagged = TimmEncoder("vit_tiny_patch16_224.augreg_in21k", weights=None, layer=0)
    other = TimmEncoder("convnext_atto.d2_in1k", weights=None, layer=0)
    assert plain.recipe()["init_args"]["architecture"] == "vit_tiny_patch16_224"
    for encoder in (tagged, other):
        again = TimmEncoder(**encoder.recipe()["init_args"])
        assert again.transform == encoder.transform
        assert again.recipe() == encoder.recipe()


@pytest.mark.parametrize("settings", [{"layer": 1}, {"layer": "final", "select": "pooled"}])
def test_recipe_and_weights_give_it_again(settings: dict[str, Any], check_rebuilt: Check) -> None:
    check_rebuilt(TimmEncoder("vit_tiny_patch16_224", weights=None, size=64, **settings))


@pytest.mark.parametrize(
    ("architecture", "layer", "blocks", "tail"),
    [
        ("vit_tiny_patch16_224", 3, 4, 0),
        ("vit_tiny_patch16_224", "final", 12, 2),  # scale and shift of the norm
        ("convnext_atto", -1, 4, 0),
        ("resnet10t", -1, 4, 0),
        ("resnet10t", 1, 1, 0),
        ("tf_efficientnet_lite0", "final", 7, 3),  # the last convolution and its norm
        ("swin_tiny_patch4_window7_224", "final", 4, 2),
    ],
)
def test_blocks_are_named_from_first_to_last(architecture: str, layer: Any, blocks: int, tail: int) -> None:
    with torch.device("meta"):
        encoder = TimmEncoder(architecture, weights=None, layer=layer)
    found = encoder.blocks()
    assert len(found) == blocks
    last = found[-1]
    rest = list(last)[1:] if isinstance(last, nn.ModuleList) else []
    assert len([one for part in rest for one in part.parameters()]) == tail
    kept = [id(one) for block in found for one in block.parameters()]
    assert len(kept) == len(set(kept))
    # What is in no block comes before the first.
    stem = [name for name, one in encoder.named_parameters() if id(one) not in kept]
    starts = ("model.cls_token", "model.pos_embed", "model.patch_embed", "model.stem", "model.conv", "model.bn1")
    assert stem
    assert all(name.startswith(starts) for name in stem)


def test_an_architecture_without_a_list_of_blocks_says_so() -> None:
    with torch.device("meta"):
        encoder = TimmEncoder("densenet121", weights=None, layer="final")
    with pytest.raises(ConfigError, match="has no list of blocks; train it whole"):
        encoder.blocks()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimmEncoder("vit_tiny_patch16_242", weights=None), r"did you mean 'vit_tiny_patch16_224'"),
        (lambda: TimmEncoder("vit_tiny_patch16_224.nothing", weights=None), "timm cannot build"),
        (lambda: TimmEncoder("resnet18", weights=None, layer=5), r"layer 5 of resnet18 .* -5 to 4"),
        (lambda: TimmEncoder("resnet18", weights=None, select="cls_patch"), "no class token"),
        (lambda: TimmEncoder("resnet18", weights=None, select="pooled"), "set layer: final, not -1"),
        (lambda: TimmEncoder("vit_tiny_patch16_224", weights=None, size=65), "images of size 65"),
        (lambda: TimmEncoder("resnet18", weights="timm:resnet34.a1_in1k"), "set architecture: resnet34"),
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
