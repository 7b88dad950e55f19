"""Image encoders: from pixels to the features of one layer, as a row of tokens.

Letters in tensor names: B batch, C colours (3), H and W pixels or grid cells, N tokens per image; in
``features_BNW``, W is the width of the features.

An encoder owns its `transform`, so that pixels are always prepared as its weights expect. Only what the chosen
layer needs is kept: parameters that would get no gradient make distributed training hang.
"""

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import open_clip
import timm
import torch
from open_clip.factory import resize_pos_embed
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from safetensors import SafetensorError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from mmmed.errors import CheckpointError, ConfigError, WeightsError, did_you_mean
from mmmed.models.shapes import output_shape
from mmmed.models.weights import parse, read_state, resolve, vision_state
from mmmed.models.weights.references import LibraryWeights, nearest
from mmmed.transforms import ImageTransform, Interpolation

Select = Literal["patch", "cls_patch"]
Fill = Literal["black", "mean"]
Colour = tuple[float, float, float]


class VisionEncoder(nn.Module, ABC):
    """What every image encoder offers to the model it is part of.

    A subclass builds its network and then calls `finish`.
    """

    transform: ImageTransform
    width: int
    tokens: int

    @abstractmethod
    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size), normalised as `transform` says, to features (B, tokens, width)."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Class path and arguments that build the same architecture without its weights."""

    def finish(self, transform: ImageTransform) -> None:
        """Set the transform, and find out how many tokens of what width come out.

        Raises:
            ConfigError: The network cannot take images of this size.
        """
        self.transform = transform
        try:
            _, self.tokens, self.width = output_shape(self, 1, 3, transform.size, transform.size)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ConfigError(
                f"{type(self).__name__} cannot take images of size {transform.size} ({reason}); "
                "leave size out for that of the weights"
            ) from error

    def train(self, mode: bool = True) -> "VisionEncoder":
        """Switch to training, unless all is frozen: a frozen encoder keeps its statistics and drops nothing."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))


class TimmEncoder(VisionEncoder):
    """Any timm architecture, convolutional or transformer.

    Args:
        architecture: timm's name, without a tag.
        weights: A reference as described in `mmmed.models.weights`; null for random initialisation.
        layer: Block of a transformer or stage of a convolutional network whose output is taken: 0 is the first,
            -1 the last, -2 the one before, as in LLaVA; without the final norm. "final" takes what the
            architecture itself ends with: the last block after the final norm, or the last convolution.
        select: The patch tokens, or the class token in front of them.
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
        layer: int | Literal["final"] = -1,
        select: Select = "patch",
        size: int | None = None,
        fill: Fill = "black",
    ) -> None:
        super().__init__()
        if not timm.is_model(architecture):
            hint = nearest(architecture, timm.list_models(), otherwise="see timm.list_models()")
            raise ConfigError(f"timm has no architecture {architecture!r}{hint}")
        parsed = parse(weights) if weights is not None else None
        # A tag brings its own image size and normalisation with it.
        tag = f".{parsed.tag}" if isinstance(parsed, LibraryWeights) and parsed.architecture == architecture else ""
        model: Any = timm.create_model(f"{architecture}{tag}", pretrained=False)
        known = set(model.state_dict())
        self.layer = _prune_timm(model, layer, name=architecture)
        if weights is not None:
            _load(model, vision_state(weights, architecture), known=known, name=weights)
        self.model, self.select = model, select
        settings = model.pretrained_cfg
        native = int(settings["input_size"][-1])
        _set_timm_size(model, size or native, native=native)
        self.finish(_transform(settings, size=size or native, fill=fill))
        self._architecture, self._fill = architecture, fill

    def recipe(self) -> dict[str, Any]:
        return _recipe(self, architecture=self._architecture, layer=self.layer, select=self.select, fill=self._fill)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, tokens, width)."""
        return _timm_features(self.model, pixels_BCHW, layer=self.layer, select=self.select)


class OpenClipEncoder(VisionEncoder):
    """The image side of a CLIP model of open_clip; the text side is never built.

    Args:
        architecture: open_clip's name; null where `weights` is a folder or hub repository that has an
            open_clip_config.json, as BiomedCLIP's.
        weights: A reference as described in `mmmed.models.weights`; null for random initialisation.
        layer: Block whose output is taken: 0 is the first, -1 the last, -2 the one before, as in LLaVA.
        select: The patch tokens, or the class token in front of them.
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
        architecture: str | None,
        *,
        weights: str | None,
        layer: int = -2,
        select: Select = "patch",
        size: int | None = None,
        fill: Fill = "black",
    ) -> None:
        super().__init__()
        path = resolve(weights) if weights is not None else None
        described = _open_clip_description(architecture, weights=weights, path=path)
        tower = _build_open_clip(described, size=size)
        if path is not None:
            _load(tower, _open_clip_state(path, tower), known=tower.state_dict(), name=str(weights))
        self.model, self.layer = _prune_open_clip(tower, layer, name=architecture or str(weights))
        self.select = select
        native = int(described.model["vision_cfg"]["image_size"])
        if isinstance(tower, TimmModel):
            _set_timm_size(self.model, size or native, native=native)
        self.finish(_transform(_CLIP | dict(described.preprocessing), size=size or native, fill=fill))
        self._architecture, self._fill = architecture, fill

    def recipe(self) -> dict[str, Any]:
        if self._architecture is None:
            raise ConfigError(
                "this encoder was described by its weights alone; name its architecture to save the model"
            )
        return _recipe(self, architecture=self._architecture, layer=self.layer, select=self.select, fill=self._fill)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, tokens, width)."""
        if not isinstance(self.model, VisionTransformer):
            return _timm_features(self.model, pixels_BCHW, layer=self.layer, select=self.select)
        output = self.model.forward_intermediates(
            pixels_BCHW,
            indices=[self.layer],
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        (patches_BNW,), (class_token,) = output["image_intermediates"], output["image_intermediates_prefix"]
        return _selected(patches_BNW, class_token=class_token, select=self.select)


class TransformersEncoder(VisionEncoder):
    """The image side of a Hugging Face model: CLIP, SigLIP, DINOv2 and their kin.

    With CLIP, ``layer=-2`` and ``select="patch"`` it gives exactly what LLaVA's projector is given.

    Args:
        weights: A reference to a hub repository or a folder; null for random initialisation.
        config: Configuration with a ``model_type`` for random initialisation; weights bring their own.
        layer: Layer whose output is taken: 0 is the first, -1 the last, -2 the one before, as in LLaVA; without
            the final norm.
        select: The patch tokens, or the class token in front of them.
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
        layer: int = -2,
        select: Select = "patch",
        size: int | None = None,
        fill: Fill = "black",
    ) -> None:
        super().__init__()
        if (weights is None) == (config is None):
            raise ConfigError("TransformersEncoder: give weights or, for random initialisation, a config; not both")
        if weights is not None:
            folder = resolve(weights)
            vision = _vision_config(folder, weights=weights)
            model = _load_transformers(folder, vision, weights=weights)
            preprocessing = _preprocessing(folder, vision.model_type)
        else:
            vision = _new_config(config or {})
            model = AutoModel.from_config(vision)  # type: ignore[no-untyped-call]
            preprocessing = _USUAL_PREPROCESSING[vision.model_type]
        described = {"model_type": vision.model_type, **vision.to_diff_dict()}
        _prune_transformers(model, layer)
        self.model, self.select = model, select
        side = size or int(vision.image_size)
        _check_size(side, patch=int(vision.patch_size))
        self.patches = (side // int(vision.patch_size)) ** 2
        # DINOv2 interpolates by itself; the others must be told.
        can_be_told = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        interpolates = side != vision.image_size and can_be_told
        self.arguments = {"interpolate_pos_encoding": True} if interpolates else {}
        self.finish(_transform(preprocessing, size=side, fill=fill))
        self._rebuild = {"config": described, "layer": layer, "select": select, "fill": fill}

    def recipe(self) -> dict[str, Any]:
        return _recipe(self, **self._rebuild)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, tokens, width)."""
        hidden_BNW: Tensor = self.model(pixels_BCHW, **self.arguments).last_hidden_state
        extra = hidden_BNW.shape[1] - self.patches
        return _selected(hidden_BNW[:, extra:], class_token=hidden_BNW[:, :1] if extra else None, select=self.select)


def _recipe(encoder: VisionEncoder, **arguments: Any) -> dict[str, Any]:
    kind = type(encoder)
    known = {"weights": None, "size": encoder.transform.size}
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": known | arguments}


def _selected(patches_BNW: Tensor, *, class_token: Tensor | None, select: Select) -> Tensor:
    if select == "patch":
        return patches_BNW
    if class_token is None:
        raise ConfigError("select cls_patch: this architecture has no class token; expected select: patch")
    return torch.cat([class_token, patches_BNW], dim=1)


def _load(model: nn.Module, state: Mapping[str, Tensor], *, known: Iterable[str], name: str) -> None:
    """Load all that the pruned model has from a state dict of the whole one; nothing may be missing or unknown.

    Raises:
        CheckpointError: Names or shapes do not fit.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = sorted(set(state) - set(known))
    misshapen = [
        f"{key} {tuple(state[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in state and state[key].shape != tensor.shape
    ]
    complaints = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(complaints.values()):
        told = "; ".join(_few(keys, what) for what, keys in complaints.items() if keys)
        raise CheckpointError(f"weights {name!r} do not fit the encoder: {told}; check architecture and weights")
    model.load_state_dict({key: state[key] for key in own})


def _few(keys: list[str], what: str) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{len(keys)} {what} ({', '.join(keys[:3])}{more})"


def _index(layer: int, *, layers: int, name: str) -> int:
    """Count a layer from the front.

    Raises:
        ConfigError: There is no such layer.
    """
    if not -layers <= layer < layers:
        raise ConfigError(f"layer {layer} of {name} does not exist; expected {-layers} to {layers - 1}")
    return layer % layers


def _check_size(size: int, *, patch: int) -> None:
    """Refuse a size whose last pixels would fall off the grid of patches.

    Raises:
        ConfigError: The size is no multiple of the patch size.
    """
    if size % patch:
        raise ConfigError(
            f"images of size {size} do not divide into patches of {patch}; set size: {size - size % patch}"
        )


def _transform(settings: Mapping[str, Any], *, size: int, fill: Fill) -> ImageTransform:
    """Read mean, std and interpolation from a library's settings."""
    mean, std = _colour(settings["mean"]), _colour(settings["std"])
    interpolation: Interpolation = "bilinear" if settings.get("interpolation") == "bilinear" else "bicubic"
    black = (0.0, 0.0, 0.0)
    bars = mean if fill == "mean" else black
    return ImageTransform(size=size, mean=mean, std=std, interpolation=interpolation, fill=bars)


def _colour(values: Iterable[float]) -> Colour:
    red, green, blue = map(float, values)
    return red, green, blue


# timm


def _prune_timm(model: Any, layer: int | Literal["final"], *, name: str) -> int | Literal["final"]:
    """Drop the classifier and all that comes after the layer, which is then counted from the front."""
    if layer == "final":
        model.reset_classifier(0, "")
        if hasattr(model, "fc_norm"):
            model.fc_norm = nn.Identity()
        return "final"
    if not hasattr(model, "prune_intermediate_layers"):
        raise ConfigError(f"timm's {name} gives no features by layer; set layer: final, or choose another architecture")
    index = _index(layer, layers=len(model.feature_info), name=name)
    model.prune_intermediate_layers([index], prune_norm=True)
    return index


def _set_timm_size(model: Any, size: int, *, native: int) -> None:
    """Interpolate position embeddings, where the architecture has any."""
    if hasattr(model, "patch_embed"):
        _check_size(size, patch=model.patch_embed.patch_size[0])
    if size != native and hasattr(model, "set_input_size"):
        model.set_input_size(img_size=(size, size))


def _timm_features(model: Any, pixels_BCHW: Tensor, *, layer: int | Literal["final"], select: Select) -> Tensor:
    """Encode (B, 3, H, W) to features (B, N, W) of one layer."""
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
    return _selected(patches_BNW, class_token=class_token, select=select)


# open_clip


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenClipDescription:
    """What open_clip knows of a model: the configuration of both sides, and how pixels are prepared."""

    model: Mapping[str, Any]
    preprocessing: Mapping[str, Any]


def _open_clip_description(architecture: str | None, *, weights: str | None, path: Path | None) -> _OpenClipDescription:
    described = path / "open_clip_config.json" if path is not None else None
    if architecture is None:
        if described is None or not described.is_file():
            raise ConfigError(
                "OpenClipEncoder: architecture may be null only with weights that have an open_clip_config.json"
            )
        content = json.loads(described.read_text(encoding="utf-8"))
        return _OpenClipDescription(model=content["model_cfg"], preprocessing=content.get("preprocess_cfg", {}))
    model = open_clip.get_model_config(architecture)
    if model is None:
        hint = nearest(architecture, open_clip.list_models(), otherwise="see open_clip.list_models()")
        raise ConfigError(f"open_clip has no architecture {architecture!r}{hint}")
    parsed = parse(weights) if weights is not None else None
    if not isinstance(parsed, LibraryWeights):
        return _OpenClipDescription(model=model, preprocessing={})
    if parsed.architecture != architecture:
        raise ConfigError(f"weights {weights!r} are not of {architecture!r}; set architecture: {parsed.architecture}")
    return _OpenClipDescription(model=model, preprocessing=open_clip.get_pretrained_cfg(architecture, parsed.tag))


def _build_open_clip(described: _OpenClipDescription, *, size: int | None) -> Any:
    """Build the image side at its own size if it is timm's (resized later), or at the wanted one."""
    vision = dict(described.model["vision_cfg"]) | {"timm_model_pretrained": False}
    if isinstance(vision.get("layers"), list):
        raise ConfigError("open_clip's ResNets give no features by layer; choose a transformer, or a timm ResNet")
    if not vision.get("timm_model_name"):
        vision["image_size"] = size or vision["image_size"]
        _check_size(vision["image_size"], patch=vision["patch_size"])
    # OpenAI's weights were trained with an approximate GELU, and their tag says so.
    quick = bool(described.model.get("quick_gelu") or described.preprocessing.get("quick_gelu"))
    return _build_vision_tower(described.model["embed_dim"], vision, quick)


def _open_clip_state(path: Path, tower: Any) -> dict[str, Tensor]:
    """Read the image side's weights, position embeddings interpolated to the size of the tower."""
    if path.is_dir():
        names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        path = next((path / name for name in names if (path / name).is_file()), path / names[0])
    state = read_state(path)
    if not isinstance(tower, TimmModel):
        resize_pos_embed(state, SimpleNamespace(visual=tower))
    return {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}


def _prune_open_clip(tower: Any, layer: int, *, name: str) -> tuple[Any, int]:
    """Drop the projection and all that comes after the layer; timm's towers lose their wrapper."""
    if isinstance(tower, TimmModel):
        index = _prune_timm(tower.trunk, layer, name=name)
        assert index != "final"
        return tower.trunk, index
    index = _index(layer, layers=len(tower.transformer.resblocks), name=name)
    tower.prune_intermediate_layers([index], prune_norm=True)
    tower.attn_pool = None
    return tower, index


# transformers

_CLIP = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD, "interpolation": "bicubic"}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic"}
_IMAGENET = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "interpolation": "bicubic"}

# As the publishers of each family prepare pixels, where no preprocessor_config.json says it.
_USUAL_PREPROCESSING = {
    "clip_vision_model": _CLIP,
    "siglip_vision_model": _HALF,
    "dinov2": _IMAGENET,
    "dinov2_with_registers": _IMAGENET,
    "vit": _HALF,
}

_PILLOW_INTERPOLATION = {2: "bilinear", 3: "bicubic"}

# Parts of a checkpoint that an image encoder may leave aside: the text side, and heads.
_NOT_VISION = ("text_", "logit_", "visual_projection", "classifier", "pooler", "lm_head")


def _new_config(config: Mapping[str, Any]) -> PreTrainedConfig:
    values = dict(config)
    model_type = str(values.pop("model_type", ""))
    if model_type not in _USUAL_PREPROCESSING:
        raise ConfigError(
            f"config model_type {model_type!r} is no image encoder{did_you_mean(model_type, _USUAL_PREPROCESSING)}"
        )
    return AutoConfig.for_model(model_type, **values)


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
    if not hasattr(vision, "patch_size") or not hasattr(vision, "image_size"):
        raise ConfigError(f"weights {weights!r} are of a {config.model_type}, which is no image encoder with patches")
    return vision


def _load_transformers(folder: Path, vision: PreTrainedConfig, *, weights: str) -> Any:
    """Load the image side, and refuse what transformers would only warn of.

    Raises:
        CheckpointError: A weight is missing, unknown or of another shape.
    """
    try:
        model, info = AutoModel.from_pretrained(
            folder, config=vision, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"weights {weights!r} do not fit {vision.model_type}: {reason}") from error
    missing = sorted(info["missing_keys"])
    unexpected = sorted(key for key in info["unexpected_keys"] if not key.startswith(_NOT_VISION))
    complaints = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": sorted(map(str, info["mismatched_keys"])),
    }
    if any(complaints.values()):
        told = "; ".join(_few(keys, what) for what, keys in complaints.items() if keys)
        raise CheckpointError(f"weights {weights!r} do not fit {vision.model_type}: {told}")
    return model


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


def _prune_transformers(model: Any, layer: int) -> None:
    """Drop the head, the final norm, and all layers after the chosen one."""
    depth = int(model.config.num_hidden_layers)
    layers = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
    index = _index(layer, layers=depth, name=model.config.model_type)
    del layers[index + 1 :]
    model.config.num_hidden_layers = index + 1
    for norm in ("post_layernorm", "layernorm"):
        if hasattr(model, norm):
            setattr(model, norm, nn.Identity())
    for head in ("head", "pooler"):
        if hasattr(model, head):
            setattr(model, head, None)
    model.use_head = False
    # Only DINOv2's own pre-training uses it.
    if getattr(model.embeddings, "mask_token", None) is not None:
        model.embeddings.mask_token = None
