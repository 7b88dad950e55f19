"""Encoders of Hugging Face's transformers: CLIP, SigLIP and SigLIP 2, DINOv2 and their kin.

Letters in tensor names: B batch, C colours (3), H and W pixels, N tokens per image; in ``features_BNW``, W is
the width of the features.
"""

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from mmmed.errors import CheckpointError, ConfigError, WeightsError, did_you_mean
from mmmed.models.vision import (
    Fill,
    Layer,
    Select,
    VisionEncoder,
    blocks_with_tail,
    check_select,
    check_size,
    complaints,
    encoder_recipe,
    image_transform,
    layer_index,
    one_token,
    selected,
)
from mmmed.models.weights import resolve

_CLIP = {"mean": OPENAI_CLIP_MEAN, "std": OPENAI_CLIP_STD, "interpolation": "bicubic"}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic"}
_IMAGENET = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "interpolation": "bicubic"}

# As the publishers of each family prepare pixels, where no preprocessor_config.json says it.
_USUAL_PREPROCESSING = {
    "clip_vision_model": _CLIP,
    "siglip_vision_model": _HALF,
    "siglip2_vision_model": _HALF | {"interpolation": "bilinear"},
    "dinov2": _IMAGENET,
    "dinov2_with_registers": _IMAGENET,
    "vit": _HALF,
}

_PILLOW_INTERPOLATION = {2: "bilinear", 3: "bicubic"}

# Parts of a checkpoint that an image encoder may leave aside: the text side, and heads.
_NOT_VISION = ("text_", "logit_", "visual_projection", "classifier", "pooler", "lm_head")


class TransformersEncoder(VisionEncoder):
    """The image side of a Hugging Face model: CLIP, SigLIP, SigLIP 2, DINOv2 and their kin.

    With CLIP, ``layer=-2`` and ``select="patch"`` it gives exactly what LLaVA's projector is given. RAD-DINO is
    a DINOv2, and MedSigLIP a SigLIP, as are the SigLIP 2 checkpoints of fixed size; those of any shape
    (``siglip2_vision_model``) are given square pictures.

    Args:
        weights: A reference to a hub repository or a folder; null for random initialisation.
        config: Configuration with a ``model_type`` for random initialisation; weights bring their own.
        layer: Layer whose output is taken: 0 is the first, -1 the last, -2 the one before, as in LLaVA; without
            the final norm. "final" takes the last layer after the final norm.
        select: The patch tokens; the class token in front of them; or, of layer "final", one token: the model's
            own ``pooler_output`` (the class token after the norm for CLIP and DINOv2, an attention pool for
            SigLIP, a dense layer on the class token for ViT).
        size: Side of the images in pixels, where it is not to be that of the weights; position embeddings are
            interpolated.
        fill: Colour of the letterbox bars; LLaVA-1.5 was trained with the mean.

    Raises:
        ConfigError: The configuration, layer, select or size is not possible.
        WeightsError: The weights cannot be resolved.
        CheckpointError: The weights do not fit the configuration.
    """

    def __init__(
        self,
        *,
        weights: str | None,
        config: dict[str, Any] | None = None,
        layer: Layer = -2,
        select: Select = "patch",
        size: int | None = None,
        fill: Fill = "mean",
    ) -> None:
        super().__init__()
        check_select(select, layer=layer)
        if (weights is None) == (config is None):
            raise ConfigError("TransformersEncoder: give weights or, for random initialisation, a config; not both")
        if weights is not None:
            folder = resolve(weights)
            vision = _vision_config(folder, weights=weights)
            described = {"model_type": vision.model_type, **vision.to_diff_dict()}
            model = _loaded(folder, vision, weights=weights, layer=layer, select=select)
            preprocessing = _preprocessing(folder, vision.model_type)
        else:
            vision = _new_config(config or {})
            described = {"model_type": vision.model_type, **vision.to_diff_dict()}
            model = AutoModel.from_config(vision)  # type: ignore[no-untyped-call]
            _prune(model, layer, select=select)
            preprocessing = _USUAL_PREPROCESSING[vision.model_type]
        self.model, self.layer, self.select = model, layer, select
        self.patch = int(vision.patch_size)
        native = _native_size(vision)
        side = size or native
        check_size(side, patch=self.patch)
        self.patches = (side // self.patch) ** 2
        # DINOv2 and SigLIP 2 interpolate by themselves; the others must be told.
        can_be_told = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        interpolates = side != native and can_be_told
        self.arguments = {"interpolate_pos_encoding": True} if interpolates else {}
        self.finish(image_transform(preprocessing, size=side, fill=fill))
        self._rebuild = {"config": described, "layer": layer, "select": select, "fill": fill}

    def recipe(self) -> dict[str, Any]:
        return encoder_recipe(self, **self._rebuild)

    def blocks(self) -> list[nn.Module]:
        """Layers of the transformer, from first to last."""
        return blocks_with_tail(self.model, list(_layers(self.model)))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, tokens, width)."""
        output = self._run(pixels_BCHW)
        if self.select == "pooled":
            return one_token(output.pooler_output)
        hidden_BNW: Tensor = output.last_hidden_state
        if self.layer == "final" and self.model.config.model_type == "clip_vision_model":
            hidden_BNW = self.model.post_layernorm(hidden_BNW)  # CLIP itself norms its class token alone
        extra = hidden_BNW.shape[1] - self.patches
        return selected(hidden_BNW[:, extra:], class_token=hidden_BNW[:, :1] if extra else None, select=self.select)

    def _run(self, pixels_BCHW: Tensor) -> Any:
        if self.model.config.model_type != "siglip2_vision_model":
            return self.model(pixels_BCHW, **self.arguments)
        side = pixels_BCHW.shape[-1] // self.patch
        # On the CPU, since transformers reads each shape as a number.
        shapes_B2 = torch.full((len(pixels_BCHW), 2), side, device="cpu")
        return self.model(_patchified(pixels_BCHW, self.patch), pixel_attention_mask=None, spatial_shapes=shapes_B2)


def _patchified(pixels_BCHW: Tensor, patch: int) -> Tensor:
    """Cut a picture into rows of patches (B, N, patch * patch * C), the colours of a pixel side by side."""
    batch, colours, height, width = pixels_BCHW.shape
    grid = pixels_BCHW.view(batch, colours, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def _new_config(config: Mapping[str, Any]) -> PreTrainedConfig:
    values = dict(config)
    model_type = str(values.pop("model_type", ""))
    if model_type not in _USUAL_PREPROCESSING:
        raise ConfigError(
            f"config model_type {model_type!r} is no image encoder{did_you_mean(model_type, _USUAL_PREPROCESSING)}"
        )
    return AutoConfig.for_model(model_type, **values)


def _native_size(vision: PreTrainedConfig) -> int:
    """Side in pixels that the position embeddings are made for; SigLIP 2 says it in patches."""
    if hasattr(vision, "image_size"):
        return int(vision.image_size)
    return math.isqrt(vision.num_patches) * int(vision.patch_size)


def _vision_config(folder: Path, *, weights: str) -> PreTrainedConfig:
    """Read the configuration, of the image side where there are two."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"weights {weights!r}: {folder} has no configuration that transformers reads ({reason})"
        ) from error
    vision: PreTrainedConfig = getattr(config, "vision_config", config)
    sized = hasattr(vision, "image_size") or hasattr(vision, "num_patches")
    if not hasattr(vision, "patch_size") or not sized:
        raise ConfigError(f"weights {weights!r} are of a {config.model_type}, which is no image encoder with patches")
    return vision


def _loaded(folder: Path, vision: PreTrainedConfig, *, weights: str, layer: Layer, select: Select) -> Any:
    """Load the image side, drop what is not needed, and refuse what transformers would only warn of.

    Raises:
        CheckpointError: A weight that is needed is missing, or one is unknown or of another shape.
    """
    try:
        model, info = AutoModel.from_pretrained(
            folder, config=vision, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"weights {weights!r} do not fit {vision.model_type}: {reason}") from error
    complaint = complaints(
        missing=sorted(key for key in info["missing_keys"] if not _left_aside(key, select=select)),
        unexpected=sorted(key for key in info["unexpected_keys"] if not key.startswith(_NOT_VISION)),
        misshapen=sorted(map(str, info["mismatched_keys"])),
    )
    if complaint:
        raise CheckpointError(f"weights {weights!r} do not fit {vision.model_type}: {complaint}")
    _prune(model, layer, select=select)
    return model


def _left_aside(key: str, *, select: Select) -> bool:
    """Whether a weight belongs to a head that is dropped; many checkpoints come without theirs."""
    return select != "pooled" and key.startswith(("pooler.", "head."))


def _preprocessing(folder: Path, model_type: str) -> Mapping[str, Any]:
    """Read how the publisher prepares pixels.

    Raises:
        ConfigError: Nothing is known of it.
    """
    path = folder / "preprocessor_config.json"
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        interpolation = _PILLOW_INTERPOLATION.get(content.get("resample"), "bicubic")
        return {"mean": content["image_mean"], "std": content["image_std"], "interpolation": interpolation}
    if model_type not in _USUAL_PREPROCESSING:
        raise ConfigError(
            f"{folder} has no preprocessor_config.json to say how a {model_type} wants its pixels; add one"
        )
    return _USUAL_PREPROCESSING[model_type]


def _layers(model: Any) -> nn.ModuleList:
    depth = int(model.config.num_hidden_layers)
    return next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)


def _prune(model: Any, layer: Layer, *, select: Select) -> None:
    """Drop the head, the final norm, and all layers after the chosen one, as far as they are not asked for."""
    if layer != "final":
        layers = _layers(model)
        index = layer_index(layer, layers=len(layers), name=model.config.model_type)
        del layers[index + 1 :]
        model.config.num_hidden_layers = index + 1
        for norm in ("post_layernorm", "layernorm"):
            if hasattr(model, norm):
                setattr(model, norm, nn.Identity())
    if select != "pooled":
        for head in ("head", "pooler"):
            if hasattr(model, head):
                setattr(model, head, None)
        model.use_head = False
    # Only DINOv2's own pre-training uses it.
    if getattr(model.embeddings, "mask_token", None) is not None:
        model.embeddings.mask_token = None
