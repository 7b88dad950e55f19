"""Encoders of open_clip: CLIP, SigLIP, CoCa, BiomedCLIP.

Letters in tensor names: B batch, C colours (3), H and W pixels, N tokens per image; in ``features_BNW``, W is
the width of the features.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
from open_clip.factory import resize_pos_embed
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.encoders.timm import prune_timm, set_timm_size, timm_blocks, timm_features
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
from mmmed.models.weights import parse, read_state, resolve
from mmmed.models.weights.references import LibraryWeights, nearest

CLIP_PREPROCESSING = {
    "mean": open_clip.OPENAI_DATASET_MEAN,
    "std": open_clip.OPENAI_DATASET_STD,
    "interpolation": "bicubic",
}


class OpenClipEncoder(VisionEncoder):
    """The image side of a CLIP model of open_clip; the text side is never built.

    Args:
        architecture: open_clip's name; null where `weights` is a folder or hub repository that has an
            open_clip_config.json, as BiomedCLIP's, or where there is a `config`.
        weights: A reference as described in `mmmed.models.weights`; null for random initialisation.
        layer: Block whose output is taken: 0 is the first, -1 the last, -2 the one before, as in LLaVA; without
            the final norm. "final" takes the last block after the final norm; of CoCa, the tokens that its
            attention pool makes for captioning, after the norm.
        select: The patch tokens; the class token in front of them; or, of layer "final", one token: what
            open_clip projects to the space it shares with text, before that projection (CLIP's class token after
            the norm, SigLIP's attention pool).
        size: Side of the images in pixels, where it is not to be that of the weights; position embeddings are
            interpolated.
        fill: Colour of the letterbox bars.
        config: What an open_clip_config.json has under ``model_cfg`` (``embed_dim``, ``vision_cfg``), for an
            architecture that open_clip has no name for.

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
        layer: Layer = -2,
        select: Select = "patch",
        size: int | None = None,
        fill: Fill = "mean",
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_select(select, layer=layer)
        path = resolve(weights) if weights is not None else None
        described = _described(architecture, weights=weights, path=path, config=config)
        tower = _built(described, size=size)
        if path is not None:
            load_kept(tower, _state(path, tower), known=tower.state_dict(), name=str(weights))
        self.model, self.layer = _pruned(tower, layer, name=architecture or weights or "config", select=select)
        self.select = select
        native = int(described.vision["image_size"])
        if isinstance(tower, TimmModel):
            set_timm_size(self.model, size or native, native=native)
        self.finish(image_transform(CLIP_PREPROCESSING | dict(described.preprocessing), size=size or native, fill=fill))
        self._described, self._fill = described, fill

    def recipe(self) -> dict[str, Any]:
        return encoder_recipe(
            self,
            architecture=None,
            config=self._described.config(),
            layer=self.layer,
            select=self.select,
            fill=self._fill,
        )

    def blocks(self) -> list[nn.Module]:
        """Blocks of the transformer, or of the timm model that stands for it, from first to last."""
        if not isinstance(self.model, VisionTransformer):
            return timm_blocks(self.model)
        return blocks_with_tail(self.model, list(self.model.transformer.resblocks))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, tokens, width)."""
        if not isinstance(self.model, VisionTransformer):
            return timm_features(self.model, pixels_BCHW, layer=self.layer, select=self.select)
        if self.select == "pooled":
            return one_token(self.model(pixels_BCHW))
        if self.layer == "final" and self.model.attn_pool is not None:
            _, tokens_BNW = self.model(pixels_BCHW)
            return selected(tokens_BNW, class_token=None, select=self.select)
        output = self.model.forward_intermediates(
            pixels_BCHW,
            indices=[len(self.model.transformer.resblocks) - 1],
            normalize_intermediates=self.layer == "final",
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        (patches_BNW,), (class_token,) = output["image_intermediates"], output["image_intermediates_prefix"]
        return selected(patches_BNW, class_token=class_token, select=self.select)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    """What open_clip knows of an image tower.

    Args:
        embed_dim: Width of the space shared with text, which an attention pool is built for.
        vision: Its ``vision_cfg``.
        quick_gelu: Trained with an approximate GELU, as OpenAI's weights were; a tag may say so too.
        preprocessing: How pixels are prepared.
    """

    embed_dim: int
    vision: Mapping[str, Any]
    quick_gelu: bool
    preprocessing: Mapping[str, Any]

    def config(self) -> dict[str, Any]:
        """The description in the form of an open_clip_config.json."""
        return {"embed_dim": self.embed_dim, "vision_cfg": dict(self.vision), "quick_gelu": self.quick_gelu}


def _description(model: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> _Description:
    return _Description(
        embed_dim=int(model["embed_dim"]),
        vision=model["vision_cfg"],
        quick_gelu=bool(model.get("quick_gelu") or preprocessing.get("quick_gelu")),
        preprocessing=preprocessing,
    )


def _described(
    architecture: str | None, *, weights: str | None, path: Path | None, config: Mapping[str, Any] | None
) -> _Description:
    if config is not None:
        if architecture is not None or not {"embed_dim", "vision_cfg"} <= set(config):
            raise ConfigError("OpenClipEncoder: a config goes without architecture, and has embed_dim and vision_cfg")
        return _description(config, {})
    if architecture is None:
        file = path / "open_clip_config.json" if path is not None else None
        if file is None or not file.is_file():
            raise ConfigError(
                "OpenClipEncoder: architecture may be null only with weights that have an open_clip_config.json"
            )
        content = json.loads(file.read_text(encoding="utf-8"))
        return _description(content["model_cfg"], content.get("preprocess_cfg", {}))
    model = open_clip.get_model_config(architecture)
    if model is None:
        hint = nearest(architecture, open_clip.list_models(), otherwise="see open_clip.list_models()")
        raise ConfigError(f"open_clip has no architecture {architecture!r}{hint}")
    parsed = parse(weights) if weights is not None else None
    if not isinstance(parsed, LibraryWeights):
        return _description(model, {})
    if parsed.architecture != architecture:
        raise ConfigError(f"weights {weights!r} are not of {architecture!r}; set architecture: {parsed.architecture}")
    return _description(model, open_clip.get_pretrained_cfg(architecture, parsed.tag))


def _built(described: _Description, *, size: int | None) -> Any:
    """Build the image side at its own size if it is timm's (resized later), or at the wanted one."""
    vision = dict(described.vision) | {"timm_model_pretrained": False}
    if isinstance(vision.get("layers"), list):
        raise ConfigError("open_clip's ResNets give no features by layer; choose a transformer, or a timm ResNet")
    if not vision.get("timm_model_name"):
        vision["image_size"] = size or vision["image_size"]
        check_size(vision["image_size"], patch=vision["patch_size"])
    return _build_vision_tower(described.embed_dim, vision, described.quick_gelu)


def _state(path: Path, tower: Any) -> dict[str, Tensor]:
    """Read the image side's weights, position embeddings interpolated to the size of the tower."""
    if path.is_dir():
        names = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        path = next((path / name for name in names if (path / name).is_file()), path / names[0])
    state = read_state(path)
    if not isinstance(tower, TimmModel):
        resize_pos_embed(state, SimpleNamespace(visual=tower))
    return {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}


def _pruned(tower: Any, layer: Layer, *, name: str, select: Select) -> tuple[Any, Layer]:
    """Drop the projection and all that comes after the layer; timm's towers lose their wrapper."""
    if isinstance(tower, TimmModel):
        return tower.trunk, prune_timm(tower.trunk, layer, name=name, select=select)
    if layer == "final":
        tower.proj = None
        tower.output_tokens = select != "pooled"
        return tower, layer
    index = layer_index(layer, layers=len(tower.transformer.resblocks), name=name)
    tower.prune_intermediate_layers([index], prune_norm=True)
    tower.attn_pool = None
    return tower, index
