"""Tensors on disk, one at a time: checkpoints read shard by shard, safetensors written without holding them all.

A checkpoint of seven billion parameters passes through the memory of its largest tensor. Nothing is unpickled
beyond plain tensors.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmmed.errors import CheckpointError
from mmmed.interop.names import Plan, Shape, carry_out

DIGEST = "digest.json"
INDEX = "model.safetensors.index.json"
UNREAD = "unread.safetensors"
"""Tensors that came with an import and that the chosen layer does not read; kept so that an export gives them back."""

_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TYPES = {code: dtype for dtype, code in _CODES.items()}
_DATA_AT_MULTIPLES_OF = 8


class TensorFiles:
    """The tensors of a checkpoint by name, read when asked for; to be used in a `with` statement.

    Args:
        path: A folder of safetensors or PyTorch files, sharded or not, or one such file.

    Raises:
        CheckpointError: There are no such files, one is missing or damaged, or it would need unpickling.
    """

    def __init__(self, path: Path) -> None:
        self.files = _tensor_files(path)
        self._stack = ExitStack()
        self._where: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, torch.dtype] = {}

    def __enter__(self) -> Self:
        for file in self.files:
            try:
                self._open(file)
            except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
                self._stack.close()
                reason = " ".join(str(error).split())[:160]
                raise CheckpointError(f"{file} cannot be read as weights ({reason}); fetch or copy it again") from error
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def read(self, name: str) -> Tensor:
        """One tensor, contiguous."""
        held = self._where[name]
        tensor: Tensor = held if isinstance(held, Tensor) else held.get_tensor(name)
        return tensor.contiguous()

    def _open(self, file: Path) -> None:
        if file.suffix == ".safetensors":
            held = self._stack.enter_context(safe_open(file, framework="pt"))
            for name in held.keys():  # noqa: SIM118 - it can be asked for names and not iterated
                piece = held.get_slice(name)
                self._add(name, file, held, tuple(piece.get_shape()), _TYPES[piece.get_dtype()])
            return
        mapped = zipfile.is_zipfile(file)  # the older format cannot be mapped from disk
        content: object = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped or None)
        for name, tensor in _flat(content):
            self._add(name, file, tensor, tuple(tensor.shape), tensor.dtype)

    def _add(self, name: str, file: Path, held: Any, shape: Shape, dtype: torch.dtype) -> None:
        if name in self._where:
            raise CheckpointError(f"{file} holds {name!r}, which another shard holds too; remove the stale shard")
        self._where[name], self.shapes[name], self.dtypes[name] = held, shape, dtype


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a tensor that was written: enough to tell whether it is still the same."""

    shape: Shape
    dtype: str
    xxh3_128: str
    made_from: str | None


def write_plan(
    file: Path,
    plan: Plan,
    read: Callable[[str], Tensor],
    *,
    names: Sequence[str],
    shapes: Mapping[str, Shape],
    dtypes: Mapping[str, torch.dtype],
) -> dict[str, Written]:
    """Write the named targets of a plan as one safetensors file, one tensor in memory at a time.

    Source: the safetensors format: the header's length in 64 bits, a JSON header padded with spaces, the bytes.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in names:
        size = _bytes(shapes[name], dtypes[name])
        offsets = [place, place + size]
        header[name] = {"dtype": _CODES[dtypes[name]], "shape": list(shapes[name]), "data_offsets": offsets}
        place += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % _DATA_AT_MULTIPLES_OF)
    written = {}
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(encoded)))
        out.write(encoded)
        for name in names:
            content = _raw(carry_out(plan[name], read).to(dtypes[name]))
            out.write(content)
            code = _CODES[dtypes[name]]
            written[name] = Written(shapes[name], code, xxhash.xxh3_128_hexdigest(content), plan[name].source)
        out.flush()
        os.fsync(out.fileno())
    return written


def write_shards(
    folder: Path,
    plan: Plan,
    read: Callable[[str], Tensor],
    *,
    shapes: Mapping[str, Shape],
    dtypes: Mapping[str, torch.dtype],
    limit: int,
) -> dict[str, Written]:
    """Write a plan as `model.safetensors`, or as shards of at most `limit` bytes with their index."""
    shards = _shards({name: _bytes(shapes[name], dtypes[name]) for name in plan}, limit=limit)
    if len(shards) == 1:
        return write_plan(folder / "model.safetensors", plan, read, names=shards[0], shapes=shapes, dtypes=dtypes)
    written: dict[str, Written] = {}
    places: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        written |= write_plan(folder / file, plan, read, names=names, shapes=shapes, dtypes=dtypes)
        places |= dict.fromkeys(names, file)
    total = sum(_bytes(shapes[name], dtypes[name]) for name in plan)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    return written


def write_digest(
    folder: Path, written: Mapping[str, Written], *, made_from: str, layout: str, notes: Mapping[str, Any]
) -> None:
    """Write the account of every tensor: shape, type, hash of its bytes, and what it was made from."""
    tensors = {
        name: {"shape": list(one.shape), "dtype": one.dtype, "xxh3_128": one.xxh3_128, "made_from": one.made_from}
        for name, one in written.items()
    }
    content = {"format": 1, "made_from": made_from, "layout": layout, **notes, "tensors": tensors}
    (folder / DIGEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def differing(folder: Path) -> list[str]:
    """Names of tensors that are not as the folder's digest says: changed, missing or new.

    Raises:
        CheckpointError: The folder has no readable digest or weights.
    """
    try:
        expected = json.loads((folder / DIGEST).read_text(encoding="utf-8"))["tensors"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder / DIGEST} cannot be read ({error}); export or import again") from error
    with TensorFiles(folder) as files:
        odd = set(expected) ^ set(files.shapes)
        odd |= {
            name
            for name in files.shapes
            if name in expected and xxhash.xxh3_128_hexdigest(_raw(files.read(name))) != expected[name]["xxh3_128"]
        }
    return sorted(odd)


def _tensor_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for index in (INDEX, "pytorch_model.bin.index.json"):
        if (path / index).is_file():
            content = json.loads((path / index).read_text(encoding="utf-8"))
            files = sorted({path / file for file in content["weight_map"].values()})
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise CheckpointError(f"{path} lacks {', '.join(missing)}, which {index} names; fetch them again")
            return files
    alone = ["model.safetensors", "pytorch_model.bin", "mm_projector.bin", "checkpoints/latest-checkpoint.pt"]
    found = next((path / name for name in alone if (path / name).is_file()), None)
    if found is None:
        raise CheckpointError(
            f"no weights in {path}; expected model.safetensors, pytorch_model.bin, their shards, mm_projector.bin or "
            "checkpoints/latest-checkpoint.pt"
        )
    unread = path / UNREAD
    return [found, unread] if unread.is_file() else [found]


def _flat(content: object, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of a state dict, or of state dicts in a dict; what trainers keep beside the model is left out."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"no state dict, but {type(content).__name__}; expected names and tensors")
    inner = content.get("model", content.get("state_dict"))
    if not prefix and isinstance(inner, Mapping):
        content = inner
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            yield f"{prefix}{name}", value


def _shards(sizes: Mapping[str, int], *, limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _bytes(shape: Iterable[int], dtype: torch.dtype) -> int:
    return int(torch.Size(shape).numel()) * dtype.itemsize


def _raw(tensor: Tensor) -> memoryview:
    array: NDArray[np.uint8] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return array.data
