"""The image encoder and projector as llama.cpp's mmproj file.

Source: llama.cpp, tools/mtmd: clip-impl.h for names and keys, models/llava.cpp for the graph. It reads blocks up to
`clip.vision.feature_layer`, or all but the last where that key is not known, so one block more than is read is
written; it drops the class token, and puts a GELU between two projector layers.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import torch

from mmmed.errors import CheckpointError
from mmmed.interop.ggml import FILE_TYPES, write_tensors
from mmmed.interop.llava import hub_plan, hub_shapes, llava_config
from mmmed.interop.names import Rule, check_total, rename
from mmmed.interop.source import ExportSource

_ENCODERS = ("clip_vision_model", "siglip_vision_model")
_RULES = [
    Rule(r"vision_tower\.vision_model\.embeddings\.class_embedding$", "v.class_embd"),
    Rule(r"vision_tower\.vision_model\.embeddings\.patch_embedding\.", "v.patch_embd."),
    Rule(r"vision_tower\.vision_model\.embeddings\.position_embedding\.", "v.position_embd."),
    Rule(r"vision_tower\.vision_model\.pre_layrnorm\.", "v.pre_ln."),
    *(
        Rule(rf"vision_tower\.vision_model\.encoder\.layers\.(\d+)\.{theirs}\.", rf"v.blk.\1.{gguf_name}.")
        for theirs, gguf_name in (
            (r"self_attn\.q_proj", "attn_q"),
            (r"self_attn\.k_proj", "attn_k"),
            (r"self_attn\.v_proj", "attn_v"),
            (r"self_attn\.out_proj", "attn_out"),
            ("layer_norm1", "ln1"),
            ("layer_norm2", "ln2"),
            (r"mlp\.fc1", "ffn_up"),
            (r"mlp\.fc2", "ffn_down"),
        )
    ),
    Rule(r"multi_modal_projector\.linear_1\.", "mm.0."),
    Rule(r"multi_modal_projector\.linear_2\.", "mm.2."),
]


def write_mmproj(source: ExportSource, file: Path, *, name: str, dtype: torch.dtype) -> None:
    """Write the encoder and projector.

    Raises:
        CheckpointError: llama.cpp's LLaVA cannot compute them.
    """
    vision = source.vision
    if vision["model_type"] not in _ENCODERS or source.linear:
        raise CheckpointError(
            f"llama.cpp's LLaVA takes CLIP or SigLIP and an MLP projector, not {vision['model_type']} and "
            f"{'one linear layer' if source.linear else 'an MLP'}; export to hf instead"
        )
    if vision["model_type"] == "clip_vision_model" and source.select != "patch":
        raise CheckpointError("llama.cpp's LLaVA drops the class token (select: cls_patch); export to hf instead")
    config = llava_config(source)
    targets = hub_shapes(config, nested=True)
    whole = hub_plan(source, targets, depth=config.vision_config.num_hidden_layers)
    seen = {hub: move for hub, move in whole.items() if not hub.startswith("language_model.")}
    renamed = rename(seen, _RULES)
    blocks = min(source.kept_layers + 1, config.vision_config.num_hidden_layers)
    # A block after the chosen one is written if there is one; the final norm and pooling head are read by nobody.
    plan = {
        renamed[hub]: move for hub, move in seen.items() if hub in renamed and _block(renamed[hub]) in range(-1, blocks)
    }
    shapes = {renamed[hub]: targets[hub] for hub in seen if renamed.get(hub) in plan}
    kept = {one: shape for one, shape in source.shapes.items() if not one.startswith("language.")}
    used = {move.source for move in plan.values()}
    skipped = [one for one in kept if one not in used and one.startswith("vision.")]
    check_total(plan, sources=kept, targets=shapes, what=str(source.folder), set_aside=skipped)
    if len([one for one in plan if one.startswith("v.blk.")]) != 16 * blocks:
        raise CheckpointError(f"{source.folder}: the encoder's blocks are not whole; train or copy the model again")
    transform = source.processor.transform
    assert transform is not None
    activation = config.vision_config.hidden_act
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.MMPROJ])
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[dtype])
    writer.add_clip_has_vision_encoder(True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_image_size(transform.size)
    writer.add_vision_patch_size(int(vision["patch_size"]))
    writer.add_vision_embedding_length(config.vision_config.hidden_size)
    writer.add_vision_feed_forward_length(config.vision_config.intermediate_size)
    writer.add_vision_projection_dim(source.model.language.width)
    writer.add_vision_block_count(blocks)
    writer.add_vision_head_count(config.vision_config.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(config.vision_config.layer_norm_eps)
    writer.add_vision_image_mean(list(transform.mean))
    writer.add_vision_image_std(list(transform.std))
    writer.add_array("clip.vision.feature_layer", [source.kept_layers])
    # Neither flag stands for the quick GELU of OpenAI's CLIP.
    writer.add_vision_use_gelu(activation.startswith("gelu"))
    write_tensors(writer, file, plan, source.read, shapes=shapes, dtype=dtype)


def _block(name: str) -> int:
    return int(name.split(".")[2]) if name.startswith("v.blk.") else -1
