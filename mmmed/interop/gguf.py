"""Export for llama.cpp: the language model as one GGUF file, the encoder and projector as another (mmproj).

Names, metadata and the order of rotary dimensions are those of llama.cpp's own converter.

Source: llama.cpp, the conversion of LlamaForCausalLM (rows of the query and key matrices regrouped from halves to
pairs) and gguf-py's table of names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import torch
from torch import Tensor

from mmmed.errors import CheckpointError
from mmmed.interop.ggml import FILE_TYPES, write_tensors
from mmmed.interop.llava import Precision, pad_rows, padded_vocabulary
from mmmed.interop.mmproj import write_mmproj
from mmmed.interop.names import Change, Move, check_total
from mmmed.interop.prompts import AS_TEXT, for_hugging_face, rendering
from mmmed.interop.source import ExportSource
from mmmed.interop.vocabulary import vocabulary_of
from mmmed.records import Turn

_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
}


def write_gguf(source: ExportSource, folder: Path, *, name: str, precision: Precision) -> None:
    """Write `NAME.gguf` and `mmproj-NAME.gguf` to a folder, which must not exist yet.

    Raises:
        CheckpointError: llama.cpp has no such language model, encoder, projector or tokenizer.
    """
    kept = source.dtypes[source.embedding] if precision == "keep" else getattr(torch, precision)
    folder.mkdir(parents=True)
    write_mmproj(source, folder / f"mmproj-{name}.gguf", name=name, dtype=kept)
    write_language(source, folder / f"{name}.gguf", name=name, dtype=kept)


def write_language(source: ExportSource, file: Path, *, name: str, dtype: torch.dtype) -> None:
    """Write the language model and its tokenizer."""
    decoder: Any = source.model.language.get_submodule("model")
    config = decoder.config
    architecture = _ARCHITECTURES.get(config.model_type)
    if architecture is None:
        raise CheckpointError(
            f"language models of type {config.model_type!r} are not written to GGUF; expected one of "
            f"{', '.join(_ARCHITECTURES)}"
        )
    rows = padded_vocabulary(source.shapes[source.embedding][0], least=source.image_id + 1)
    plan = language_plan(source, config, architecture=architecture, rows=rows)
    shapes = {target: _shape(source, move, rows=rows) for target, move in plan.items()}
    words = {one: shape for one, shape in source.shapes.items() if one.startswith("language.")}
    check_total(plan, sources=words, targets=shapes, what=str(source.folder))
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[dtype])
    _add_hyperparameters(writer, config, rows=rows)
    _add_tokenizer(writer, source, rows=rows)
    write_tensors(writer, file, plan, source.read, shapes=shapes, dtype=dtype)


def language_plan(source: ExportSource, config: Any, *, architecture: Any, rows: int) -> dict[str, Move]:
    """Say what each tensor of the GGUF file is made from."""
    table = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    plan = {}
    for ours in source.shapes:
        if not ours.startswith("language.model."):
            continue
        theirs = table.get_name(ours.removeprefix("language.model."), try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise CheckpointError(f"GGUF has no name for {ours!r}; this language model cannot be written")
        change: Change | None = None
        if architecture is gguf.MODEL_ARCH.LLAMA and ".q_proj." in ours:
            change = _paired(config.num_attention_heads)
        elif architecture is gguf.MODEL_ARCH.LLAMA and ".k_proj." in ours:
            change = _paired(config.num_key_value_heads)
        elif ours.endswith(("embed_tokens.weight", "lm_head.weight")) and source.shapes[ours][0] < rows:
            change = pad_rows(rows)
        plan[theirs] = Move(ours, change)
    return plan


def _paired(heads: int) -> Change:
    """Regroup each head's rows: transformers rotates row i with row i + half, llama.cpp row 2i with 2i + 1."""

    def regrouped(matrix: Tensor) -> Tensor:
        halves = matrix.reshape(heads, 2, matrix.shape[0] // heads // 2, *matrix.shape[1:])
        return halves.transpose(1, 2).reshape(matrix.shape)

    return regrouped


def _shape(source: ExportSource, move: Move, *, rows: int) -> tuple[int, ...]:
    shape = source.shapes[str(move.source)]
    return (rows, *shape[1:]) if str(move.source).endswith(("embed_tokens.weight", "lm_head.weight")) else shape


def _add_hyperparameters(writer: Any, config: Any, *, rows: int) -> None:
    rope: Mapping[str, Any] = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(f"rotary positions scaled as {rope['rope_type']!r} are not written to GGUF")
    # llama.cpp attends to the whole context; within the window of a model that slides, that is the same.
    window = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
    heads = config.num_attention_heads
    writer.add_vocab_size(rows)
    writer.add_context_length(min(config.max_position_embeddings, window or config.max_position_embeddings))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(getattr(config, "head_dim", None) or config.hidden_size // heads)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_tokenizer(writer: Any, source: ExportSource, *, rows: int) -> None:
    tokenizer: Any = source.processor.prompt.tokenizer
    words = vocabulary_of(tokenizer, rows=rows)
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    if words.merges:
        writer.add_token_merges(words.merges)
    if words.scores:
        writer.add_token_scores(words.scores)
        writer.add_add_space_prefix(words.space_prefix)
    for add, index in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        if index is not None:
            add(index)
    template = str(tokenizer.chat_template)
    begins = tokenizer.bos_token is not None and rendering(tokenizer, template, [Turn("user", "x")]).startswith(
        tokenizer.bos_token
    )
    writer.add_add_bos_token(begins)
    writer.add_chat_template(for_hugging_face(template, system=source.processor.system).removeprefix(AS_TEXT))
