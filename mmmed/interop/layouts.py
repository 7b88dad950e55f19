"""How other projects name their tensors, and the maps between those names and ours.

    ours          vision.model.…  projector.…  language.model.…
    hf            vision_tower.[vision_model.]…  multi_modal_projector.linear_N.…  language_model.model.…, with or
                  without `model.` in front, and transformers 5's own names
    llava         model.vision_tower.vision_tower.vision_model.…  model.mm_projector.…  model.layers.…  lm_head.…
    nanovlm       vision_encoder.…  MP.proj.…  decoder.…
    prismatic     vision_backbone.featurizer.…  projector.projector.…  llm_backbone.llm.…
    minigpt4      llama_proj.…, alone
    mm_projector  model.mm_projector.…, alone

Source: the published checkpoints' keys; transformers' conversion_mapping.py for the three Hugging Face spellings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

import torch

from mmmed.errors import CheckpointError
from mmmed.interop.names import Change, Move, Plan, Rule, few, moves, rename

Layout = Literal["mmmed", "hf", "llava", "nanovlm", "prismatic", "minigpt4", "mm_projector"]


def detect(names: Collection[str], *, what: str) -> Layout:
    """Recognise a layout by its tensors' names.

    Raises:
        CheckpointError: The names are of no known layout.
    """
    heads = {".".join(name.removeprefix("model.").split(".")[:1]) for name in names}
    if "multi_modal_projector" in heads and "language_model" in heads:
        return "hf"
    if "mm_projector" in heads:
        return "llava" if "embed_tokens" in heads else "mm_projector"
    if {"MP", "decoder", "vision_encoder"} <= heads:
        return "nanovlm"
    if {"projector", "llm_backbone"} <= heads:
        return "prismatic"
    if {"projector", "language"} <= heads:
        return "mmmed"
    if heads == {"llama_proj"}:
        return "minigpt4"
    raise CheckpointError(
        f"{what}: the tensors' names are of no known layout (they begin {', '.join(sorted(heads)[:6])}); "
        "expected LLaVA, Hugging Face LLaVA, nanoVLM, Prismatic or a projector file"
    )


def from_hugging_face(names: Iterable[str], *, base: str, linear: bool) -> dict[str, str]:
    """Name the tensors of any of Hugging Face's three spellings as we do.

    Args:
        names: Of the file.
        base: What our language model calls its base.
        linear: The projector is one linear layer, followed by one that changes nothing.
    """
    projector = "projector.linear." if linear else r"projector.linear_\1."
    return rename(
        names,
        [
            Rule(r"(?:model\.)?vision_tower\.(?:vision_model\.)?", "vision.model."),
            *([Rule(r"(?:model\.)?multi_modal_projector\.linear_1\.", projector)] if linear else []),
            *([] if linear else [Rule(r"(?:model\.)?multi_modal_projector\.linear_([12])\.", projector)]),
            Rule(r"(?:model\.)?(?:language_model\.)?lm_head\.", "language.model.lm_head."),
            Rule(r"(?:model\.)?language_model\.(?:model\.)?", f"language.model.{base}."),
        ],
    )


def from_llava(names: Iterable[str], *, base: str, linear: bool) -> dict[str, str]:
    """Name the tensors of an original LLaVA or LLaVA-Med as we do; `image_newline` is not ours and stays unused."""
    projector = (
        [Rule(r"model\.mm_projector\.", "projector.linear.")]
        if linear
        else [
            Rule(r"model\.mm_projector\.0\.", "projector.linear_1."),
            Rule(r"model\.mm_projector\.2\.", "projector.linear_2."),
        ]
    )
    return rename(
        names,
        [
            # The tower is wrapped once in LLaVA's own class, and was named without that in its first version.
            Rule(r"model\.vision_tower\.(?:vision_tower\.)?(?:vision_model\.)?", "vision.model."),
            *projector,
            Rule(r"model\.(embed_tokens|layers|norm)\.", rf"language.model.{base}.\1."),
            Rule(r"lm_head\.", "language.model.lm_head."),
        ],
    )


def from_prismatic(names: Iterable[str], *, base: str, linear: bool) -> dict[str, str]:
    """Name the tensors of a Prismatic checkpoint as we do; its encoders are timm's."""
    projector = (
        [Rule(r"projector\.projector\.(weight|bias)", r"projector.linear.\1")]
        if linear
        else [
            Rule(r"projector\.projector\.0\.", "projector.linear_1."),
            Rule(r"projector\.projector\.2\.", "projector.linear_2."),
        ]
    )
    return rename(
        names,
        [
            Rule(r"vision_backbone\.featurizer\.", "vision.model."),
            *projector,
            Rule(r"llm_backbone\.llm\.lm_head\.", "language.model.lm_head."),
            Rule(r"llm_backbone\.llm\.model\.", f"language.model.{base}."),
        ],
    )


def from_projector(names: Iterable[str], *, linear: bool) -> dict[str, str]:
    """Name the tensors of a file that holds a projector alone as we do: MiniGPT-4's or LLaVA's."""
    return rename(
        names,
        [
            Rule(r"llama_proj\.", "projector.linear."),
            *([Rule(r"(?:model\.)?mm_projector\.(weight|bias)", r"projector.linear.\1")] if linear else []),
            Rule(r"(?:model\.)?mm_projector\.0\.", "projector.linear_1."),
            Rule(r"(?:model\.)?mm_projector\.2\.", "projector.linear_2."),
        ],
    )


def from_nanovlm(names: Iterable[str]) -> Plan:
    """Plan our tensors from nanoVLM's, whose encoder keeps queries, keys and values in one matrix."""
    block = r"vision_encoder\.blocks\.(\d+)\."
    decoder = r"decoder\.blocks\.(\d+)\."
    layer, ours = r"vision.model.encoder.layers.\1.", r"language.model.model.layers.\1."
    rules = [
        Rule(r"vision_encoder\.patch_embedding\.conv\.", "vision.model.embeddings.patch_embedding."),
        Rule(r"vision_encoder\.layer_norm\.", "vision.model.post_layernorm."),
        Rule(block + r"ln([12])\.", layer + r"layer_norm\2."),
        Rule(block + r"attn\.out_proj\.", layer + "self_attn.out_proj."),
        Rule(block + r"mlp\.", layer + "mlp."),
        Rule(r"MP\.proj\.", "projector.proj."),
        Rule(r"decoder\.token_embedding\.", "language.model.model.embed_tokens."),
        Rule(r"decoder\.norm\.", "language.model.model.norm."),
        Rule(r"decoder\.head\.", "language.model.lm_head."),
        Rule(decoder + r"norm1\.", ours + "input_layernorm."),
        Rule(decoder + r"norm2\.", ours + "post_attention_layernorm."),
        Rule(decoder + r"attn\.out_proj\.", ours + "self_attn.o_proj."),
        Rule(decoder + r"attn\.", ours + "self_attn."),
        Rule(decoder + r"mlp\.", ours + "mlp."),
    ]
    names = list(names)
    plan = moves(rename(names, rules))
    positions = "vision_encoder.patch_embedding.position_embedding"
    if positions in names:
        plan["vision.model.embeddings.position_embedding.weight"] = Move(positions, torch.Tensor.squeeze)
    for name in names:
        found = re.fullmatch(block + r"attn\.qkv_proj\.(weight|bias)", name)
        if found is not None:
            plan |= split_attention(name, f"vision.model.encoder.layers.{found[1]}.self_attn", kind=found[2])
    return plan


def split_attention(source: str, target: str, *, kind: str) -> dict[str, Move]:
    """Plan queries, keys and values from the matrix or bias that joins them."""
    return {f"{target}.{part}_proj.{kind}": Move(source, _third(index)) for index, part in enumerate(("q", "k", "v"))}


def to_hugging_face(name: str, *, base: str, nested_vision: bool) -> str:
    """Name one of our tensors by the hub layout, which every version of transformers and vLLM can read.

    Args:
        name: Ours, of an encoder of transformers.
        base: What our language model calls its base.
        nested_vision: The hub puts `vision_model.` before the encoder's names, as for CLIP and SigLIP.
    """
    vision = "vision_tower.vision_model." if nested_vision else "vision_tower."
    rules = [
        Rule(r"vision\.model\.", vision),
        Rule(r"projector\.linear_([12])\.", r"multi_modal_projector.linear_\1."),
        Rule(rf"language\.model\.{base}\.", "language_model.model."),
        Rule(r"language\.model\.lm_head\.", "language_model.lm_head."),
    ]
    renamed = rename([name], rules)
    if name not in renamed:
        raise CheckpointError(f"the hub layout of LLaVA has no name for {few([name], 'tensor')}")
    return renamed[name]


def _third(index: int) -> Change:
    return lambda joined: joined.chunk(3)[index].contiguous()
