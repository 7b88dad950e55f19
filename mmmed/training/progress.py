"""How far a run is, in lines: for where no bar is drawn, as in a log, or of runs side by side."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

_log = logging.getLogger(__name__)


class ProgressLines(Callback):
    """Says once a minute which step a run is at, what its loss was, and how long the rest takes at this pace.

    Args:
        every: Seconds from line to line.
    """

    def __init__(self, every: float = 60.0) -> None:
        self.every = every
        self._begun = self._told = 0.0
        self._first = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._begun = self._told = monotonic()
        self._first = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, done = monotonic(), trainer.global_step - self._first
        if not trainer.is_global_zero or not done or now - self._told < self.every:
            return
        self._told = now
        loss = trainer.callback_metrics.get("train/loss")
        told = [f"step {trainer.global_step}", *([f"loss {float(loss):.3g}"] if loss is not None else [])]
        if trainer.max_steps > 0 or (trainer.max_epochs or 0) > 0:
            steps = int(trainer.estimated_stepping_batches)
            told[0] += f" of {steps}"
            told.append(f"{(now - self._begun) / done * (steps - trainer.global_step) / 60:.0f} min left")
        _log.info("%s: %s", trainer.default_root_dir, ", ".join(told))
