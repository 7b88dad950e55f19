"""Encoders of timm, which open_clip uses too for some of its towers.

Letters in tensor names: B batch, C colours (3), H and W pixels or grid cells, N tokens per image; in
``features_BNW``, W is the width of the features.
"""

import re
from typing import Any

import timm
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.vision import (
    Fill,
    Layer,
    Select,
    VisionEncoder,
    blocks_with_tail,
    check_select,
    check_size,
    encoder_recipe,
    image_transform,
    layer_index,
    load_kept,
    one_token,
    selected,
)
from mmmed.models.weights import parse, vision_state
from mmmed.models.weights.references import LibraryWeights, nearest


class TimmEncoder(VisionEncoder):
    """Any timm architecture, convolutional or transformer.

    Args:
        architecture: timm's name. A tag of timm's behind it brings that tag's normalisation; weights of timm
            bring their own.
        weights: A reference as described in `mmmed.models.weights`; null for random initialisation.
        layer: Block of a transformer or stage of a convolutional network whose output is taken: 0 is the first,
            -1 the last, -2 the one before, as in LLaVA; without the final norm. "final" takes what the
            architecture itself ends with: the last block after the final norm, or the last convolution.
        select: The patch tokens; the class token in front of them; or, of layer "final", one token: what timm
            gives to its classifier (`forward_head` with `pre_logits`), which is the class token, a mean or an
            attention pool, as the architecture has it.
        size: Side of the images in pixels, where it is not to be that of the weights; position embeddings are
            interpolated.
        fill: Colour of the letterbox bars.

    Raises:
        ConfigError: The architecture, layer, select or size is not possible.
        WeightsError: The weights cannot be resolved.
        CheckpointError: The weights do not fit the architecture.
    """

    def __init__(
        self,
        architecture: str,
        *,
        weights: str | None,
        layer: Layer = -1,
        select: Select = "patch",
        size: int | None = None,
        fill: Fill = "mean",
    ) -> None:
        super().__init__()
        check_select(select, layer=layer)
        name, _, tag = architecture.partition(".")
        if not timm.is_model(name):
            hint = nearest(name, timm.list_models(), otherwise="see timm.list_models()")
            raise ConfigError(f"timm has no architecture {name!r}{hint}")
        parsed = parse(weights) if weights is not None else None
        if isinstance(parsed, LibraryWeights) and parsed.architecture == name:
            tag = parsed.tag
        # A tag brings its own image size and normalisation with it, and the recipe must keep them.
        self._architecture = f"{name}.{tag}" if tag else name
        model = _created(self._architecture)
        known = set(model.state_dict())
        self.layer = prune_timm(model, layer, name=name, select=select)
        if weights is not None:
            load_kept(model, vision_state(weights, name), known=known, name=weights)
        self.model, self.select = model, select
        settings = model.pretrained_cfg
        native = int(settings["input_size"][-1])
        set_timm_size(model, size or native, native=native)
        self.finish(image_transform(settings, size=size or native, fill=fill))
        self._fill = fill

    def recipe(self) -> dict[str, Any]:
        return encoder_recipe(
            self, architecture=self._architecture, layer=self.layer, select=self.select, fill=self._fill
        )

    def blocks(self) -> list[nn.Module]:
        """Blocks of a transformer or stages of a convolutional network, from first to last."""
        return timm_blocks(self.model)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, tokens, width)."""
        return timm_features(self.model, pixels_BCHW, layer=self.layer, select=self.select)


def _created(architecture: str) -> Any:
    try:
        return timm.create_model(architecture, pretrained=False)
    except RuntimeError as error:
        raise ConfigError(f"timm cannot build {architecture!r} ({error}); see timm.list_pretrained()") from error


def prune_timm(model: Any, layer: Layer, *, name: str, select: Select) -> Layer:
    """Drop the classifier and all that comes after the layer, which is then counted from the front."""
    if layer == "final" and select == "pooled":
        model.reset_classifier(0)
        return "final"
    if layer == "final":
        model.reset_classifier(0, "")
        if hasattr(model, "fc_norm"):
            model.fc_norm = nn.Identity()
        # ConvNeXt keeps a norm in its head, which is never reached.
        for classifier in _names(model.pretrained_cfg.get("classifier")):
            setattr(model, classifier.partition(".")[0], nn.Identity())
        return "final"
    if not hasattr(model, "prune_intermediate_layers"):
        raise ConfigError(f"timm's {name} gives no features by layer; set layer: final, or choose another architecture")
    index = layer_index(layer, layers=len(model.feature_info), name=name)
    model.prune_intermediate_layers([index], prune_norm=True)
    return index


def _names(classifier: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if classifier is None:
        return ()
    return (classifier,) if isinstance(classifier, str) else tuple(classifier)


def set_timm_size(model: Any, size: int, *, native: int) -> None:
    """Interpolate position embeddings, where the architecture has any."""
    if hasattr(model, "patch_embed"):
        check_size(size, patch=model.patch_embed.patch_size[0])
    if size != native and hasattr(model, "set_input_size"):
        model.set_input_size(img_size=(size, size))


def timm_blocks(model: Any) -> list[nn.Module]:
    """The blocks or stages of a timm model, from first to last.

    Raises:
        ConfigError: The architecture keeps them under names of its own.
    """
    for name in ("blocks", "stages", "layers"):
        if isinstance(blocks := getattr(model, name, None), nn.Sequential | nn.ModuleList):
            return blocks_with_tail(model, list(blocks))
    stages = [part for name, part in model.named_children() if re.fullmatch(r"layer\d+", name)]
    stages = [stage for stage in stages if any(True for _ in stage.parameters())]
    if not stages:
        raise ConfigError(f"{type(model).__name__} of timm has no list of blocks; train it whole, or freeze it")
    return blocks_with_tail(model, stages)


def timm_features(model: Any, pixels_BCHW: Tensor, *, layer: Layer, select: Select) -> Tensor:
    """Encode (B, 3, H, W) to features (B, N, W) of one layer."""
    if select == "pooled":
        return one_token(model.forward_head(model.forward_features(pixels_BCHW), pre_logits=True))
    extra = getattr(model, "num_prefix_tokens", 0)  # the class token, and registers
    extra_tokens: Tensor | None = None
    if layer == "final":
        features: Tensor = model.forward_features(pixels_BCHW)
        if features.ndim == 3:
            extra_tokens, patches_BNW = features[:, :extra], features[:, extra:]
        else:
            # Swin and its kin put the width last.
            last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
            patches_BNW = features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)
    else:
        arguments = {"return_prefix_tokens": True} if extra else {}
        (output,) = model.forward_intermediates(
            pixels_BCHW, indices=[layer], norm=False, intermediates_only=True, **arguments
        )
        grid_BWHW, extra_tokens = output if extra else (output, None)
        patches_BNW = grid_BWHW.flatten(2).transpose(1, 2)
    has_class_token = extra_tokens is not None and getattr(model, "cls_token", None) is not None
    class_token = extra_tokens[:, :1] if extra_tokens is not None and has_class_token else None
    return selected(patches_BNW, class_token=class_token, select=select)
