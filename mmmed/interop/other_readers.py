"""Readers of layouts that are not LLaVA's: nanoVLM and Prismatic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmed.errors import CheckpointError, did_you_mean
from mmmed.interop import configs, layouts
from mmmed.interop.names import Move, Shape, few, moves
from mmmed.interop.prompts import NAMED, images_first, without_break
from mmmed.interop.reading import Reading, load_tokenizer
from mmmed.interop.tensors import TensorFiles
from mmmed.models.encoders.timm import TimmEncoder
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.projector import LinearProjector, MLPProjector
from mmmed.models.weights import resolve, vision_state
from mmmed.transforms import Fit, ImageTransform

# Prismatic's names of encoders, by the timm architectures that compute the same. It puts OpenAI's quick GELU back
# into timm's CLIP, and timm has architectures that have it.
PRISMATIC_ENCODERS = {
    "clip-vit-b": "vit_base_patch16_clip_quickgelu_224",
    "clip-vit-l": "vit_large_patch14_clip_quickgelu_224",
    "clip-vit-l-336px": "vit_large_patch14_clip_quickgelu_336",
    "siglip-vit-b16-224px": "vit_base_patch16_siglip_224",
    "siglip-vit-b16-256px": "vit_base_patch16_siglip_256",
    "siglip-vit-b16-384px": "vit_base_patch16_siglip_384",
    "siglip-vit-so400m": "vit_so400m_patch14_siglip_224",
    "siglip-vit-so400m-384px": "vit_so400m_patch14_siglip_384",
}
_FITS: dict[str, Fit] = {"resize-naive": "stretch", "resize-crop": "crop", "letterbox": "pad"}


def nanovlm(path: Path, files: TensorFiles, *, language: str | None) -> Reading:
    """Understand a nanoVLM folder: SigLIP after its final norm, pixel shuffle, a Llama.

    Raises:
        CheckpointError: It cuts images into tiles, or its tokenizer is not given.
    """
    raw = configs.read_json(path / "config.json")
    size = int(raw["vit_img_size"])
    if int(raw.get("max_img_size", size)) != size or raw.get("vit_cls_flag"):
        raise CheckpointError(
            f"{path} cuts images of up to {raw.get('max_img_size')} pixels into tiles of {size}, or pools them to one "
            "token; only nanoVLMs of one tile are imported"
        )
    if language is None:
        raise CheckpointError(
            f"{path} has no tokenizer; give --language, a folder or reference of {raw['lm_tokenizer']}"
        )
    tokenizer = load_tokenizer(resolve(language))
    extra = raw.get("vlm_extra_tokens") or {}
    if extra:
        tokenizer.add_special_tokens({"extra_special_tokens": list(extra.values())}, replace_extra_special_tokens=False)
    chat = raw.get("lm_chat_template")
    tokenizer.chat_template = without_break(chat) if chat else images_first(NAMED["nanovlm"])
    plan = dict(layouts.from_nanovlm(files.shapes))
    tied = bool(raw.get("lm_tie_weights"))
    words, head = "language.model.model.embed_tokens.weight", "language.model.lm_head.weight"
    checked: list[str] = []
    if tied and head in plan:
        # safetensors keeps one name of tied weights, and which one is not said.
        if words in plan and not torch.equal(files.read(str(plan[words].source)), files.read(str(plan[head].source))):
            raise CheckpointError(f"{path}: decoder.head and decoder.token_embedding differ, and lm_tie_weights is set")
        checked = [str(plan[head].source)]
        plan.setdefault(words, Move(checked[0]))
        del plan[head]
    return Reading(
        layout="nanovlm",
        recipe={
            "language": configs.language_recipe(_nanovlm_language(raw, tied=tied)),
            "vision": {
                "class_path": configs.class_path(TransformersEncoder),
                "init_args": {
                    "weights": None,
                    "config": _nanovlm_vision(raw),
                    "layer": "final",
                    "select": "patch",
                    "size": size,
                },
            },
            "projector": {
                "class_path": "mmmed.models.projector.PixelShuffle",
                "init_args": {"factor": int(raw["mp_pixel_shuffle_factor"])},
                "needs_widths": True,
            },
        },
        plan=plan,
        shapes=files.shapes,
        dtypes=files.dtypes,
        read=files.read,
        transform=ImageTransform(
            size=size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear", fit="stretch"
        ),
        tokenizer=tokenizer,
        checked=checked,
    )


def prismatic(
    path: Path, files: TensorFiles, *, vision: str | None, language: str | None, template: str | None
) -> Reading:
    """Understand a Prismatic run: an encoder of timm, one linear layer or an MLP, a language model of transformers.

    Raises:
        CheckpointError: The encoder is fused of two, the projector has three layers, or a reference is lacking.
    """
    raw = configs.read_json(path / "config.json")["model"]
    name = str(raw["vision_backbone_id"])
    if name not in PRISMATIC_ENCODERS:
        raise CheckpointError(f"Prismatic's encoder {name!r} is not imported{did_you_mean(name, PRISMATIC_ENCODERS)}")
    architecture = PRISMATIC_ENCODERS[name]
    if language is None:
        raise CheckpointError(
            f"{path} has no tokenizer; give --language, a folder or reference of {raw['llm_backbone_id']}"
        )
    folder = resolve(language)
    linear = "projector.projector.weight" in files.shapes
    names = layouts.from_prismatic(files.shapes, base="model", linear=linear)
    described = configs.read_json(folder / "config.json")
    words = "llm_backbone.llm.model.embed_tokens.weight"
    if words not in files.shapes:
        raise CheckpointError(f"{path}: {few([words], 'unfilled')}; a checkpoint of the align stage is no whole model")
    described["vocab_size"] = files.shapes[words][0]
    encoder = TimmEncoder(architecture, weights=None, layer=-2, select="patch")
    held = any(target.startswith("vision.") for target in names.values())
    if not held and vision is None:
        raise CheckpointError(
            f"{path} holds no image encoder (it was frozen in training); give --vision, timm's {architecture}"
        )
    borrowed = {} if held else _borrowed(str(vision), architecture)
    tokenizer = load_tokenizer(folder)
    usual = "vicuna_v1" if "vicuna" in str(raw["llm_backbone_id"]) else "pure"
    tokenizer.chat_template = images_first(NAMED[template or usual])
    transform = encoder.transform
    strategy = str(raw.get("image_resize_strategy", "resize-crop"))

    def read(name: str) -> Tensor:
        return borrowed[name] if name in borrowed else files.read(name)

    shapes: dict[str, Shape] = {**files.shapes, **{one: tuple(tensor.shape) for one, tensor in borrowed.items()}}
    return Reading(
        layout="prismatic",
        recipe={
            "language": configs.language_recipe(described),
            "vision": encoder.recipe(),
            "projector": {
                "class_path": configs.class_path(LinearProjector if linear else MLPProjector),
                "init_args": {},
                "needs_widths": True,
            },
        },
        plan=moves({**names, **{one: one for one in borrowed}}),
        shapes=shapes,
        dtypes={**files.dtypes, **{one: tensor.dtype for one, tensor in borrowed.items()}},
        read=read,
        transform=ImageTransform(
            size=transform.size,
            mean=transform.mean,
            std=transform.std,
            interpolation=transform.interpolation,
            fill=transform.mean,
            fit=_FITS[strategy],
        ),
        tokenizer=tokenizer,
        whole_vision=_whole_timm(architecture),
    )


def _borrowed(vision: str, architecture: str) -> dict[str, Tensor]:
    return {f"vision.model.{name}": tensor for name, tensor in vision_state(vision, architecture).items()}


def _whole_timm(architecture: str) -> list[str]:
    import timm

    with torch.device("meta"):
        model = timm.create_model(architecture, pretrained=False)
    return [f"vision.model.{name}" for name in model.state_dict()]


def _nanovlm_vision(raw: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": raw["vit_hidden_dim"],
        "intermediate_size": raw["vit_inter_dim"],
        "num_hidden_layers": raw["vit_n_blocks"],
        "num_attention_heads": raw["vit_n_heads"],
        "image_size": raw["vit_img_size"],
        "patch_size": raw["vit_patch_size"],
        "layer_norm_eps": raw["vit_ln_eps"],
        "hidden_act": "gelu_pytorch_tanh",
        "vision_use_head": False,
    }


def _nanovlm_language(raw: dict[str, Any], *, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": raw["lm_vocab_size"],
        "hidden_size": raw["lm_hidden_dim"],
        "intermediate_size": raw["lm_inter_dim"],
        "num_hidden_layers": raw["lm_n_blocks"],
        "num_attention_heads": raw["lm_n_heads"],
        "num_key_value_heads": raw["lm_n_kv_heads"],
        "max_position_embeddings": raw["lm_max_position_embeddings"],
        "rms_norm_eps": raw["lm_rms_eps"],
        "rope_theta": raw["lm_re_base"],
        "tie_word_embeddings": tied,
    }
