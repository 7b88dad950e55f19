"""Configurations: ours to Hugging Face's LLaVA, and Hugging Face's, LLaVA's and nanoVLM's to ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmmed.errors import CheckpointError
from mmmed.interop.openclip import clip_config
from mmmed.models.encoders.open_clip import OpenClipEncoder
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.language import CausalLanguageModel
from mmmed.models.projector import LinearProjector, MLPProjector
from mmmed.models.vlm import VisionLanguageModel

NESTED_VISION = ("clip_vision_model", "siglip_vision_model")
"""Encoders whose names the hub nests under `vision_model.`."""

ENCODERS = {*NESTED_VISION, "dinov2"}
LANGUAGES = {"llama", "mistral", "qwen2", "qwen3", "phi3"}
"""Language models whose logits are their head on their last hidden states and nothing more, as LLaVA takes them."""

_CLIP_L = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "projection_dim": 768,
}
KNOWN_TOWERS = {
    "openai/clip-vit-large-patch14": _CLIP_L | {"image_size": 224},
    "openai/clip-vit-large-patch14-336": _CLIP_L | {"image_size": 336},
}
"""Configurations of the encoders that LLaVA and LLaVA-Med name without describing."""

_LLAVA_LANGUAGES = {"llava": "llama", "llava_llama": "llama", "llama": "llama", "llava_mistral": "mistral"}
_LANGUAGE_FIELDS = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "head_dim",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "attention_bias",
    "sliding_window",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an imported model is built of, and how its file is to be read.

    Args:
        recipe: As in a model folder.
        linear: The projector is a single linear layer.
        image_token: The text that stands for an image in the tokenizer.
    """

    recipe: Mapping[str, Any]
    linear: bool
    image_token: str = "<image>"


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration file.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); the folder needs its configuration") from error
    return content


def vision_config_of(model: VisionLanguageModel) -> dict[str, Any]:
    """Describe our encoder as a configuration of transformers, at its full depth before the layer was chosen.

    Raises:
        CheckpointError: LLaVA has no room for such an encoder.
    """
    encoder = model.vision
    if encoder is not None and type(encoder).__name__ == "FrozenFeatures":
        encoder = encoder.get_submodule("encoder")  # type: ignore[assignment]
    if isinstance(encoder, OpenClipEncoder):
        return clip_config(encoder)
    if not isinstance(encoder, TransformersEncoder):
        name = "no image encoder" if encoder is None else type(encoder).__name__
        raise CheckpointError(
            f"this model has {name}, and LLaVA holds CLIP, SigLIP or DINOv2 of transformers, or a CLIP of open_clip; "
            "not exportable"
        )
    arguments = encoder.recipe()["init_args"]
    config = dict(arguments["config"])
    if config["model_type"] not in ENCODERS:
        raise CheckpointError(f"this model sees through a {config['model_type']}, which LLaVA does not hold")
    if not isinstance(arguments["layer"], int) or arguments["select"] not in ("patch", "cls_patch"):
        raise CheckpointError(
            f"this model takes layer {arguments['layer']!r}, {arguments['select']!r} of its encoder; LLaVA takes a "
            "block before the final norm, with patch or cls_patch"
        )
    if int(config.get("image_size", encoder.transform.size)) != encoder.transform.size:
        raise CheckpointError(
            f"this model interpolates positions from {config['image_size']} to {encoder.transform.size} pixels; "
            "LLaVA does not, so it cannot be exported"
        )
    return _without_dtype({**config, "image_size": encoder.transform.size})


def vision_place(model: VisionLanguageModel) -> tuple[int, str]:
    """Layer (counted as in our recipe) and selection of our encoder."""
    assert model.vision is not None
    encoder: Any = model.vision if hasattr(model.vision, "select") else model.vision.get_submodule("encoder")
    arguments = encoder.recipe()["init_args"]
    return int(arguments["layer"]), str(arguments["select"])


def check_projector(model: VisionLanguageModel) -> bool:
    """Say whether the projector is linear, having made sure that it is one of LLaVA's two.

    Raises:
        CheckpointError: It is another one.
    """
    projector: Any = model.projector
    kind = type(projector)
    pooled = getattr(getattr(projector, "pool", None), "factor", 1) != 1
    if kind not in (LinearProjector, MLPProjector) or pooled or getattr(projector, "layers", 2) != 2:
        raise CheckpointError(
            f"this model's projector is {kind.__name__}{' with pooling' if pooled else ''}, and LLaVA holds one linear "
            "layer or an MLP of two, without pooling; not exportable"
        )
    if kind is MLPProjector and projector.linear_1.out_features != model.language.width:
        raise CheckpointError(
            f"this MLP projector is {projector.linear_1.out_features} wide inside, and LLaVA's is as wide as the "
            f"language model ({model.language.width}); not exportable"
        )
    return kind is LinearProjector


def language_config_of(model: VisionLanguageModel) -> dict[str, Any]:
    """Describe our language model as a text configuration of transformers.

    Raises:
        CheckpointError: It is none whose logits LLaVA computes alike.
    """
    config = dict(model.language.recipe()["init_args"]["config"])
    if config["model_type"] not in LANGUAGES:
        raise CheckpointError(
            f"language models of type {config['model_type']!r} are not exported, since LLaVA may compute their logits "
            f"otherwise; expected one of {', '.join(sorted(LANGUAGES))}"
        )
    return _without_dtype(config)


def from_hugging_face(raw: Mapping[str, Any], *, linear: bool) -> Mapping[str, Any]:
    """Read the recipe out of a Hugging Face LLaVA configuration.

    Args:
        raw: The content of config.json.
        linear: The second layer of the projector changes nothing.

    Raises:
        CheckpointError: The configuration asks for what our parts cannot do.
    """
    from transformers import LlavaConfig

    config: Any = LlavaConfig.from_dict(dict(raw))
    layer, strategy = config.vision_feature_layer, config.vision_feature_select_strategy
    if not isinstance(layer, int) or layer == 0:
        raise CheckpointError(f"vision_feature_layer is {layer!r}; expected one block, not several joined or none")
    if config.projector_hidden_act not in ("gelu", "linear") or (config.projector_hidden_act == "linear") != linear:
        raise CheckpointError(
            f"projector_hidden_act is {config.projector_hidden_act!r}; expected 'gelu', or 'linear' with a second "
            "layer that changes nothing"
        )
    vision = {"model_type": config.vision_config.model_type, **config.vision_config.to_diff_dict()}
    language = {"model_type": config.text_config.model_type, **config.text_config.to_diff_dict()}
    language["tie_word_embeddings"] = bool(config.tie_word_embeddings)
    select = _select(strategy, encoder=vision["model_type"])
    return recipe_of(vision=vision, language=language, layer=layer, select=select, linear=linear)


def from_llava(
    raw: Mapping[str, Any], *, vision: Mapping[str, Any], vocabulary: int, linear: bool
) -> Mapping[str, Any]:
    """Read the recipe out of an original LLaVA or LLaVA-Med configuration.

    Args:
        raw: The content of config.json.
        vision: Configuration of the encoder, which LLaVA only names.
        vocabulary: Rows of the embedding matrix, which the configuration may not know of.
        linear: The projector is one linear layer.

    Raises:
        CheckpointError: The configuration asks for what our parts cannot do.
    """
    model_type = str(raw.get("model_type", ""))
    if model_type not in _LLAVA_LANGUAGES:
        raise CheckpointError(f"model_type {model_type!r} is no LLaVA known here ({', '.join(_LLAVA_LANGUAGES)})")
    kind = str(raw.get("mm_projector_type", "linear"))
    if kind not in ("linear", "mlp2x_gelu") or (kind == "linear") != linear:
        raise CheckpointError(f"mm_projector_type is {kind!r}; expected 'linear' or 'mlp2x_gelu', as the tensors are")
    if raw.get("image_aspect_ratio") == "anyres" or raw.get("mm_patch_merge_type", "flat") != "flat":
        raise CheckpointError("this LLaVA cuts images into tiles (anyres), which is not imported")
    language = {"model_type": _LLAVA_LANGUAGES[model_type], "vocab_size": vocabulary}
    language |= {name: raw[name] for name in _LANGUAGE_FIELDS if raw.get(name) is not None}
    select = {"patch": "patch", "cls_patch": "cls_patch"}[str(raw.get("mm_vision_select_feature", "patch"))]
    layer = int(raw.get("mm_vision_select_layer", -2))
    return recipe_of(vision=vision, language=language, layer=layer, select=select, linear=linear)


def recipe_of(
    *, vision: Mapping[str, Any], language: Mapping[str, Any], layer: int, select: str, linear: bool
) -> Mapping[str, Any]:
    """Write down a model of an encoder and a language model of transformers with LLaVA's projector.

    Args:
        vision: Configuration of the encoder.
        language: Configuration of the language model.
        layer: As LLaVA counts: 1 is the first block, -1 the last.
        select: `patch` or `cls_patch`.
        linear: The projector is one linear layer.
    """
    if vision["model_type"] not in ENCODERS:
        raise CheckpointError(f"the encoder is a {vision['model_type']}; expected one of {', '.join(sorted(ENCODERS))}")
    place = layer - 1 if layer > 0 else layer
    seen = {"weights": None, "config": _without_dtype(vision), "layer": place, "select": select, "size": None}
    return {
        "language": language_recipe(language),
        "vision": {"class_path": class_path(TransformersEncoder), "init_args": seen},
        "projector": {
            "class_path": class_path(LinearProjector if linear else MLPProjector),
            "init_args": {},
            "needs_widths": True,
        },
    }


def language_recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Write down a causal language model of transformers."""
    arguments = {"weights": None, "config": _without_dtype(config), "adapter": None, "attention": None}
    return {"class_path": class_path(CausalLanguageModel), "init_args": arguments}


def class_path(kind: type) -> str:
    """Where a class is found."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _select(strategy: str, *, encoder: str) -> str:
    if encoder == "siglip_vision_model":
        if strategy != "full":
            raise CheckpointError(
                "vision_feature_select_strategy 'default' drops the first patch of SigLIP, which has no class token; "
                "expected 'full'"
            )
        return "patch"
    return {"default": "patch", "full": "cls_patch"}[strategy]


def _without_dtype(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our models compute in float32 whatever their file holds."""
    left_out = ("dtype", "torch_dtype", "transformers_version", "_attn_implementation")
    return {key: value for key, value in config.items() if key not in left_out}
