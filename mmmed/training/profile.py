"""`mmmed fit --profile`: a trace of a few steps, and one page that says where their time and memory went."""

from __future__ import annotations

import logging
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile

from mmmed.errors import OutputError
from mmmed.page.files import replace_text

_log = logging.getLogger(__name__)

WARMUP = 3
ROWS = 15


class Profile(Callback):
    """Leaves `profile/trace.json`, for chrome://tracing or perfetto, and `profile/summary.md` in the run's folder.

    Args:
        steps: Batches that are traced, after a few that are not; tracing slows them.
    """

    def __init__(self, steps: int = 5) -> None:
        self.steps = steps
        self._seen = 0
        self._waits: list[float] = []
        self._works: list[float] = []
        self._end = self._start = 0.0
        self._profiler: profile | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._seen = 0

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._start = perf_counter()
        if self._seen >= WARMUP and len(self._waits) < self.steps:
            self._waits.append(self._start - self._end)
        if self._seen == WARMUP and trainer.is_global_zero:
            cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profiler = profile(activities=[ProfilerActivity.CPU, *cuda], profile_memory=True)
            self._profiler.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._end = perf_counter()
        if self._profiler is not None:
            self._works.append(self._end - self._start)
            if len(self._works) == self.steps:
                self._write(trainer, pl_module)
        self._seen += 1

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if self._profiler is not None:
            self._write(trainer, pl_module)
        elif not self._works and trainer.is_global_zero:
            _log.warning("the run has %d batches, and the first %d are not traced; train longer", self._seen, WARMUP)

    def _write(self, trainer: lightning.Trainer, stage: Any) -> None:
        assert self._profiler is not None
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        folder = Path(trainer.default_root_dir) / "profile"
        partial_path = folder / ".trace.json.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            profiler.export_chrome_trace(str(partial_path))
            partial_path.replace(folder / "trace.json")
        except OSError as error:
            raise OutputError(f"cannot write the trace to {folder}: {error.strerror}; free space") from error
        replace_text(folder / "summary.md", self._summary(profiler, stage.device))

    def _summary(self, profiler: profile, device: torch.device) -> str:
        waited, worked = sum(self._waits[: len(self._works)]), sum(self._works)
        on_gpu = device.type == "cuda"
        averages = profiler.key_averages()
        rows = sorted(averages, key=lambda one: _self_time(one, on_gpu=on_gpu), reverse=True)[:ROWS]
        whole = sum(_self_time(one, on_gpu=on_gpu) for one in averages) or 1.0
        table = [
            f"| `{one.key}` | {one.count} | {_self_time(one, on_gpu=on_gpu) / 1000:.1f} "
            f"| {100 * _self_time(one, on_gpu=on_gpu) / whole:.1f} |"
            for one in rows
        ]
        return "\n".join(
            [
                f"# Where the time of {len(self._works)} steps went",
                "",
                f"- a step takes {1000 * worked / len(self._works):.1f} ms under the profiler, on {device}",
                f"- waiting for data: {1000 * waited / len(self._works):.1f} ms a step, "
                f"{100 * waited / (waited + worked):.1f} % of the time",
                f"- memory at its highest: {_peak_gib(device):.2f} GiB ({'device' if on_gpu else 'process'})",
                "- every operation: `trace.json`, which chrome://tracing and ui.perfetto.dev open",
                "",
                "| operation | calls | own ms | % |",
                "| --- | --- | --- | --- |",
                *table,
                "",
            ]
        )


def _self_time(event: Any, *, on_gpu: bool) -> float:
    """Microseconds of an operation without those it calls."""
    return float(event.self_device_time_total if on_gpu else event.self_cpu_time_total)


def _peak_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told / (2**30 if sys.platform == "darwin" else 2**20)
