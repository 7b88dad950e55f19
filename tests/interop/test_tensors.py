"""Tensors pass from file to file bit for bit, one at a time, and never through pickle code."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmmed.errors import CheckpointError
from mmmed.interop.names import Move
from mmmed.interop.tensors import DIGEST, TensorFiles, differing, write_digest, write_plan, write_shards


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(7).bfloat16(),
        "single": torch.randn(2, 2, 2),
        "scalar": torch.tensor(3.5),
        "whole": torch.arange(5),
    }


def specification(state: dict[str, Tensor]) -> dict[str, object]:
    return {
        "shapes": {name: tuple(tensor.shape) for name, tensor in state.items()},
        "dtypes": {name: tensor.dtype for name, tensor in state.items()},
    }


def test_what_is_written_is_what_safetensors_reads(state: dict[str, Tensor], tmp_path: Path) -> None:
    plan = {name: Move(name) for name in state}
    file = tmp_path / "model.safetensors"
    write_plan(file, plan, state.__getitem__, names=list(plan), **specification(state))
    again = load_file(file)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) and again[name].dtype == tensor.dtype for name, tensor in state.items())


def test_shards_are_bounded_and_read_back_as_one(state: dict[str, Tensor], tmp_path: Path) -> None:
    plan = {name: Move(name) for name in state}
    written = write_shards(tmp_path, plan, state.__getitem__, limit=50, **specification(state))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 3
    assert set(json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]) == set(state)
    with TensorFiles(tmp_path) as opened:
        assert set(opened.shapes) == set(state)
        assert all(torch.equal(opened.read(name), tensor) for name, tensor in state.items())
    write_digest(tmp_path, written, made_from="x", layout="hf", notes={})
    assert differing(tmp_path) == []


def test_a_changed_tensor_is_found_by_its_digest(state: dict[str, Tensor], tmp_path: Path) -> None:
    plan = {name: Move(name) for name in state}
    written = write_shards(tmp_path, plan, state.__getitem__, limit=10**9, **specification(state))
    write_digest(tmp_path, written, made_from="x", layout="hf", notes={})
    account = json.loads((tmp_path / DIGEST).read_text())["tensors"]["half"]
    assert account["shape"] == [3, 5]
    assert account["dtype"] == "F16"
    state["half"][0, 0] += 1
    save_file(state | {"new": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert differing(tmp_path) == ["half", "new"]


def test_pytorch_files_are_read_without_pickle_code(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": {"a": {"w": state["half"]}, "b": state["single"]}, "optimizer": {}}, tmp_path / "model.bin")
    with TensorFiles(tmp_path / "model.bin") as files:
        assert files.shapes == {"a.w": (3, 5), "b": (2, 2, 2)}
        assert torch.equal(files.read("a.w"), state["half"])

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch trapped",)

    torch.save({"w": Trap()}, tmp_path / "trap.bin")
    with pytest.raises(CheckpointError, match="cannot be read as weights"), TensorFiles(tmp_path / "trap.bin"):
        pass
    assert not Path("trapped").exists()


def test_a_missing_or_damaged_shard_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    plan = {name: Move(name) for name in state}
    write_shards(tmp_path, plan, state.__getitem__, limit=50, **specification(state))
    first = tmp_path / "model-00001-of-00003.safetensors"
    first.write_bytes(first.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="cannot be read as weights"), TensorFiles(tmp_path):
        pass
    first.unlink()
    with pytest.raises(CheckpointError, match="lacks model-00001-of-00003"), TensorFiles(tmp_path):
        pass
    with pytest.raises(CheckpointError, match="no weights in"), TensorFiles(tmp_path / "nowhere"):
        pass
