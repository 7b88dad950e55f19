"""The last good checkpoint survives whatever stops the writing of the next."""

import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mmmed.errors import CheckpointError, OutputError
from mmmed.training.checkpointing import AtomicCheckpointIO, BackgroundCheckpointIO
from mmmed.training.resuming import random_states, rescale_progress, set_random_state
from mmmed.training.shard_files import ShardFolder, whole_checkpoint, write_rows
from mmmed.training.whole_files import replace_file

FORK = multiprocessing.get_context("fork")


def state(number: int, *, size: int = 1000) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((size,), float(number))}}


def number_in(path: Path) -> float:
    weight = AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["weight"]
    assert bool((weight == weight[0]).all())
    return float(weight[0])


def limited(folder: Path, result: Any) -> None:
    """Try to write more than a file may hold, as on a disk that is full."""
    torch.set_num_threads(1)  # the threads of the process it was forked from are not there
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        AtomicCheckpointIO().save_checkpoint(state(2, size=1_000_000), folder / "last.ckpt")
    except OutputError as error:
        result.put(str(error))


def test_a_full_disk_leaves_the_checkpoint_before_and_says_so_in_one_line(tmp_path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(state(1), tmp_path / "last.ckpt")
    told = FORK.Queue()
    process = FORK.Process(target=limited, args=(tmp_path, told))
    process.start()
    message = told.get(timeout=120)
    process.join()
    assert "\n" not in message
    assert "File too large; the one before is kept; free space and resume from it" in message
    assert number_in(tmp_path / "last.ckpt") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]


def write_for_ever(folder: Path) -> None:
    torch.set_num_threads(1)
    for number in range(1, 1_000_000):
        AtomicCheckpointIO().save_checkpoint(state(number, size=500_000), folder / "last.ckpt")


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    for wait in (0.05, 0.11, 0.23):
        process = FORK.Process(target=write_for_ever, args=(tmp_path,))
        process.start()
        while not (tmp_path / "last.ckpt").exists():
            time.sleep(0.01)
        time.sleep(wait)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert number_in(tmp_path / "last.ckpt") >= 1
    AtomicCheckpointIO().save_checkpoint(state(7), tmp_path / "last.ckpt")
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"], "what the kill left behind is written over"


def test_what_is_written_in_the_background_replaces_before_the_old_one_goes(tmp_path: Path) -> None:
    background = BackgroundCheckpointIO()
    background.save_checkpoint(state(1), tmp_path / "one.ckpt")
    live = state(2)
    background.save_checkpoint(live, tmp_path / "two.ckpt")
    live["state_dict"]["weight"].zero_()  # training goes on
    background.remove_checkpoint(tmp_path / "one.ckpt")
    background.teardown()
    assert [one.name for one in tmp_path.iterdir()] == ["two.ckpt"]
    assert number_in(tmp_path / "two.ckpt") == 2


def test_a_failure_in_the_background_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    background = BackgroundCheckpointIO()
    with pytest.raises(OutputError, match="cannot write checkpoint"):
        try:
            background.save_checkpoint(state(1), tmp_path / "file" / "last.ckpt")
        finally:
            background.teardown()


def test_pieces_are_put_together_and_a_missing_one_is_told(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(3, 2)
    moments = {"optimizer/0/layer.weight/exp_avg": 2 * weight, "optimizer/0/layer.weight/step": torch.tensor(4.0)}
    write_rows(tmp_path, {"layer.weight": weight} | moments, rank=0)
    groups = [{"lr": 0.1, "params": ["layer.weight"]}]
    meta = {"ranks": 1, "optimizer_states": [{"param_groups": groups}], "global_step": 4}
    replace_file(tmp_path / "meta.pt", lambda file: torch.save(meta, file))
    assert torch.equal(ShardFolder(tmp_path).rows("layer.weight", 1, 3), weight[1:])
    assert ShardFolder(tmp_path).rows("layer.weight", 3, 3).shape == (0, 2)
    loaded = whole_checkpoint(tmp_path)
    assert torch.equal(loaded["state_dict"]["layer.weight"], weight)
    (optimizer,) = loaded["optimizer_states"]
    assert optimizer["param_groups"] == [{"lr": 0.1, "params": [0]}]
    assert torch.equal(optimizer["state"][0]["exp_avg"], 2 * weight)
    assert optimizer["state"][0]["step"] == 4
    assert loaded["global_step"] == 4
    (tmp_path / "rank-0.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is damaged"):
        whole_checkpoint(tmp_path)


def test_random_numbers_go_on_where_they_were() -> None:
    torch.manual_seed(5)
    states = random_states()
    expected = torch.rand(3)
    set_random_state(states, rank=0)
    assert torch.equal(torch.rand(3), expected)
    set_random_state(states, rank=3)
    assert torch.equal(torch.rand(3), expected), "a rank that is new takes the state of another"


def test_progress_counts_batches_as_the_new_ranks_do() -> None:
    current = {"ready": 6, "started": 6, "processed": 6, "completed": 5}
    loops = {"fit_loop": {"epoch_loop.batch_progress": {"current": current}}}
    rescale_progress(loops, before=2, now=2)
    assert current["ready"] == 6
    rescale_progress(loops, before=2, now=4)
    assert current == {"ready": 3, "started": 3, "processed": 3, "completed": 2}
    rescale_progress(loops, before=4, now=1)
    assert current == {"ready": 12, "started": 12, "processed": 12, "completed": 11}
