"""A checkpoint in pieces: each rank writes its rows of every tensor, and any number of ranks reads its own again.

    meta.pt                          all that is no tensor of model or optimizer, and how many ranks wrote
    rank-0.safetensors, rank-1 …     rows of tensors, with the shape of the whole and the first row of each

A tensor that is not cut stands in the file of rank 0.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.distributed.tensor import DTensor

from mmmed.errors import CheckpointError
from mmmed.training.whole_files import replace_file

META = "meta.pt"
OPTIMIZER = "optimizer/"
"""What an optimizer keeps is named optimizer/NUMBER/PARAMETER/KIND."""


class Pieces(Protocol):
    """Tensors of a checkpoint, of which rows can be had.

    `shapes` are those of whole tensors, and `groups` the groups of each optimizer, with names for parameters.
    """

    shapes: dict[str, list[int]]
    groups: list[list[dict[str, Any]]]

    def rows(self, name: str, first: int, after: int) -> Tensor:
        """Rows of a tensor; of a scalar, itself."""
        ...


class Rows(NamedTuple):
    """Some rows of a tensor."""

    shape: list[int]
    first: int
    content: Tensor


def rows_of(tensor: Tensor) -> Rows:
    """The rows that this rank holds, which is all of them where the tensor is not cut."""
    if not isinstance(tensor, DTensor):
        return Rows(list(tensor.shape), 0, tensor)
    local, mesh = tensor.to_local(), tensor.device_mesh
    # As torch.chunk cuts: pieces of equal size from the first on, and what is left for the last.
    size = -(-tensor.shape[0] // mesh.size()) if tensor.ndim else 0
    return Rows(list(tensor.shape), min(mesh.get_local_rank() * size, tensor.shape[0]), local)


def write_rows(folder: Path, tensors: Mapping[str, Tensor], *, rank: int) -> None:
    """Write this rank's rows. Raises `OutputError`."""
    held = {name: rows_of(one) for name, one in tensors.items() if rank == 0 or isinstance(one, DTensor)}
    places = {name: {"shape": rows.shape, "first": rows.first} for name, rows in held.items()}
    contents = {name: rows.content.detach().cpu().contiguous().clone() for name, rows in held.items()}
    data = save(contents, metadata={"places": json.dumps(places)})

    def write(file: IO[bytes]) -> None:
        file.write(data)

    replace_file(folder / f"rank-{rank}.safetensors", write)


@dataclass(frozen=True, slots=True)
class Piece:
    """Where some rows of a tensor stand."""

    file: Path
    first: int
    rows: int


class ShardFolder:
    """Reads rows of the tensors of a folder, whatever ranks wrote them.

    Raises:
        CheckpointError: A file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.groups: list[list[dict[str, Any]]] = []
        try:
            self.meta: dict[str, Any] = torch.load(folder / META, map_location="cpu", weights_only=True)
            files = [folder / f"rank-{rank}.safetensors" for rank in range(self.meta["ranks"])]
            self.shapes: dict[str, list[int]] = {}
            self._pieces: dict[str, list[Piece]] = {}
            for file in files:
                self._list(file)
            self.groups = [one["param_groups"] for one in self.meta.get("optimizer_states", [])]
        except (OSError, SafetensorError, RuntimeError, KeyError) as error:
            raise CheckpointError(f"checkpoint {folder} is damaged ({error}); resume from another") from error

    def _list(self, file: Path) -> None:
        with safe_open(file, framework="pt") as opened:
            for name, place in json.loads(opened.metadata()["places"]).items():
                self.shapes[name] = place["shape"]
                shape = opened.get_slice(name).get_shape()
                self._pieces.setdefault(name, []).append(Piece(file, place["first"], shape[0] if shape else 1))

    def rows(self, name: str, first: int, after: int) -> Tensor:
        """Rows of a tensor; of a scalar, itself."""
        found = []
        for piece in self._pieces[name]:
            with safe_open(piece.file, framework="pt") as opened:
                if not self.shapes[name]:
                    scalar: Tensor = opened.get_tensor(name)
                    return scalar
                begin, end = max(first, piece.first), min(after, piece.first + piece.rows)
                if begin < end:
                    found.append(opened.get_slice(name)[begin - piece.first : end - piece.first])
        if not found:  # a rank may hold nothing of a tensor of few rows
            with safe_open(self._pieces[name][0].file, framework="pt") as opened:
                found.append(opened.get_slice(name)[:0])
        return torch.cat(found)


class WholeTensors:
    """The tensors of a checkpoint in one file, as Lightning keeps it."""

    def __init__(self, checkpoint: Mapping[str, Any]) -> None:
        self._tensors: dict[str, Tensor] = dict(checkpoint["state_dict"])
        self.groups: list[list[dict[str, Any]]] = []
        for index, state in enumerate(checkpoint["optimizer_states"]):
            self.groups.append(state["param_groups"])
            for parameter, kept in state["state"].items():
                for key, value in kept.items():
                    self._tensors[f"{OPTIMIZER}{index}/{parameter}/{key}"] = torch.as_tensor(value)
        self.shapes = {name: list(one.shape) for name, one in self._tensors.items()}

    def rows(self, name: str, first: int, after: int) -> Tensor:
        """Rows of a tensor; of a scalar, itself."""
        tensor = self._tensors[name]
        return tensor[first:after] if tensor.ndim else tensor


def whole_checkpoint(folder: Path) -> dict[str, Any]:
    """What a folder of pieces holds, as Lightning keeps it in one file.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    pieces = ShardFolder(folder)
    whole = {name: pieces.rows(name, 0, shape[0] if shape else 1) for name, shape in pieces.shapes.items()}
    states = []
    for index, groups in enumerate(pieces.groups):
        names = [name for group in groups for name in group["params"]]
        numbers = {name: number for number, name in enumerate(names)}
        kept: dict[int, dict[str, Tensor]] = {}
        for key, value in whole.items():
            if key.startswith(prefix := f"{OPTIMIZER}{index}/"):
                name, _, kind = key.removeprefix(prefix).rpartition("/")
                kept.setdefault(numbers[name], {})[kind] = value
        numbered = [group | {"params": [numbers[name] for name in group["params"]]} for group in groups]
        states.append({"state": kept, "param_groups": numbered})
    state = {name: value for name, value in whole.items() if not name.startswith(OPTIMIZER)}
    return pieces.meta | {"state_dict": state, "optimizer_states": states}
