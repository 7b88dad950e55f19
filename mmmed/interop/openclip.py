"""An open_clip image tower by the names of transformers' CLIP: exact where the tower is a plain CLIP transformer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from mmmed.errors import CheckpointError
from mmmed.interop.layouts import split_attention
from mmmed.interop.names import Move, Plan, Rule, moves, rename


def clip_config(encoder: Any) -> dict[str, Any]:
    """Describe the tower of an `OpenClipEncoder` as a CLIP vision configuration.

    Raises:
        CheckpointError: The tower has parts that CLIP of transformers has not.
    """
    tower = encoder.model
    blocks = list(getattr(getattr(tower, "transformer", None), "resblocks", []))
    odd = _oddities(tower, blocks)
    if odd:
        raise CheckpointError(f"this open_clip encoder has {odd}, which CLIP of transformers has not; not exportable")
    activation = {nn.GELU: "gelu"}.get(type(blocks[0].mlp.gelu), "quick_gelu")
    return {
        "model_type": "clip_vision_model",
        "hidden_size": tower.conv1.out_channels,
        "intermediate_size": blocks[0].mlp.c_fc.out_features,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": blocks[0].attn.num_heads,
        "image_size": encoder.transform.size,
        "patch_size": tower.conv1.kernel_size[0],
        "hidden_act": activation,
        "layer_norm_eps": blocks[0].ln_1.eps,
    }


def from_open_clip(names: Iterable[str]) -> Plan:
    """Plan the tensors of transformers' CLIP, by our names, from those of an open_clip tower."""
    block, layer = r"vision\.model\.transformer\.resblocks\.(\d+)\.", r"vision.model.encoder.layers.\1."
    names = list(names)
    rules = [
        Rule(r"vision\.model\.conv1\.", "vision.model.embeddings.patch_embedding."),
        Rule(r"vision\.model\.class_embedding$", "vision.model.embeddings.class_embedding"),
        Rule(r"vision\.model\.positional_embedding$", "vision.model.embeddings.position_embedding.weight"),
        Rule(r"vision\.model\.ln_pre\.", "vision.model.pre_layrnorm."),
        Rule(block + r"ln_([12])\.", layer + r"layer_norm\2."),
        Rule(block + r"attn\.out_proj\.", layer + "self_attn.out_proj."),
        Rule(block + r"mlp\.c_fc\.", layer + "mlp.fc1."),
        Rule(block + r"mlp\.c_proj\.", layer + "mlp.fc2."),
    ]
    plan: dict[str, Move] = moves(rename(names, rules))
    for name in names:
        found = re.fullmatch(block + r"attn\.in_proj_(weight|bias)", name)
        if found is not None:
            plan |= split_attention(name, f"vision.model.encoder.layers.{found[1]}.self_attn", kind=found[2])
    return plan


def _oddities(tower: Any, blocks: list[Any]) -> str:
    if not blocks or not isinstance(getattr(tower, "conv1", None), nn.Conv2d):
        return f"a {type(tower).__name__} inside"
    if tower.conv1.bias is not None:
        return "a bias in its patch embedding"
    if isinstance(tower.ln_pre, nn.Identity):
        return "no norm before its blocks"
    if any(any(True for _ in getattr(one, scale).parameters()) for one in blocks for scale in ("ls_1", "ls_2")):
        return "layer scale"
    if type(blocks[0].mlp.gelu).__name__ not in {"GELU", "QuickGELU"}:
        return f"the activation {type(blocks[0].mlp.gelu).__name__}"
    if not isinstance(tower.positional_embedding, torch.Tensor) or not tower.positional_embedding.requires_grad:
        return "fixed position embeddings"
    return ""
