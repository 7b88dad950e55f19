"""Checkpoints that are written whole or not at all: a stop at any moment leaves the last good one."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

from mmmed.training.shard_files import whole_checkpoint
from mmmed.training.whole_files import replace_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and puts it there only when all of it is on the disk.

    Lightning's own writes to the folder of temporary files and moves it, which across two file systems is a copy: a
    stop in the middle of it leaves half a checkpoint in the place of the good one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OutputError: It cannot be written; the one that was there before still is.
        """
        if storage_options is not None:
            raise TypeError("a checkpoint on a disk takes no storage_options")
        replace_file(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Open a checkpoint on the CPU, of one file or in pieces.

        Raises:
            CheckpointError: A folder of pieces is damaged.
        """
        if Path(path).is_dir():
            return whole_checkpoint(Path(path))
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return loaded


class BackgroundCheckpointIO(AsyncCheckpointIO):
    """Writes checkpoints as `AtomicCheckpointIO` does while training goes on, one after another.

    The state is copied first, which takes its memory a second time. Older checkpoints are removed in the same order,
    so that none goes before the one that replaces it is on the disk.
    """

    def __init__(self) -> None:
        super().__init__(AtomicCheckpointIO())

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint after all that is still to be written has been."""
        self._ensure_setup()
        assert self._executor is not None
        assert self.checkpoint_io is not None
        self._executor.submit(self.checkpoint_io.remove_checkpoint, path)
