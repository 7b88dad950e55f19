"""GGUF files written tensor by tensor; what the language model's and the encoder's writers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmmed.interop.names import Move, Shape, carry_out

_TYPES = {
    torch.float32: gguf.GGMLQuantizationType.F32,
    torch.float16: gguf.GGMLQuantizationType.F16,
    torch.bfloat16: gguf.GGMLQuantizationType.BF16,
}
FILE_TYPES = {
    torch.float32: gguf.LlamaFileType.ALL_F32,
    torch.float16: gguf.LlamaFileType.MOSTLY_F16,
    torch.bfloat16: gguf.LlamaFileType.MOSTLY_BF16,
}


def write_tensors(
    writer: Any,
    file: Path,
    plan: Mapping[str, Move],
    read: Callable[[str], Tensor],
    *,
    shapes: Mapping[str, Shape],
    dtype: torch.dtype,
) -> None:
    """Write header, metadata and the tensors of a plan, one in memory at a time; vectors are always float32."""
    kinds = {name: dtype if len(shapes[name]) > 1 else torch.float32 for name in plan}
    for name in plan:
        kind, shape = kinds[name], shapes[name]
        size = int(torch.Size(shape).numel()) * kind.itemsize
        raw = None if kind is torch.float32 else _TYPES[kind]
        stored = shape if kind is not torch.bfloat16 else (*shape[:-1], shape[-1] * 2)  # as bytes
        writer.add_tensor_info(name, stored, np.dtype(_storage(kind)), size, raw_dtype=raw)
    writer.write_header_to_file(file)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, move in plan.items():
        writer.write_tensor_data(_array(carry_out(move, read).to(kinds[name])))
    writer.close()


def _storage(kind: torch.dtype) -> type:
    return {torch.float32: np.float32, torch.float16: np.float16}.get(kind, np.uint8)


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().contiguous()
    array: NDArray[Any] = (tensor.view(torch.uint8) if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return array
