"""How fast a device multiplies at its best: what a plan divides by, and what a log holds a run against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import yaml

from mmmed.errors import ConfigError, did_you_mean

_TABLE = Path(__file__).with_name("gpus.yaml")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of device.

    Args:
        name: As it is called here.
        memory: GiB.
        bf16: TFLOP/s of dense products.
        float32: TFLOP/s.
        source: Where these figures are from.
        known_as: What the driver's name holds.
    """

    name: str
    memory: float
    bf16: float
    float32: float
    source: str
    known_as: tuple[str, ...]

    def peak(self, precision: str) -> float:
        """Operations a second in a precision of Lightning's name."""
        return 1e12 * (self.float32 if precision.startswith("32") else self.bf16)


@cache
def gpus() -> dict[str, Gpu]:
    """All kinds that are known, by name."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return {name: Gpu(name, **one | {"known_as": tuple(one["known_as"])}) for name, one in table.items()}


def known_gpu(name: str) -> Gpu:
    """A kind by name.

    Raises:
        ConfigError: It is not known.
    """
    if name not in gpus():
        raise ConfigError(f"unknown GPU {name!r}{did_you_mean(name, gpus())}")
    return gpus()[name]


def peak_of(device: torch.device, precision: str) -> float | None:
    """Operations a second that a device can do: of a GPU what its maker says, of a CPU what it is measured to do.

    Returns:
        None of a GPU that is not in the table.
    """
    if device.type == "cpu":
        return measured_rate(torch.float32 if precision.startswith("32") else torch.bfloat16)
    told = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    found = next((one for one in gpus().values() if any(name in told for name in one.known_as)), None)
    return found.peak(precision) if found is not None else None


@cache
def measured_rate(dtype: torch.dtype, *, side: int = 768, seconds: float = 0.15) -> float:
    """Operations a second of a product of two square matrices on this process's threads: the best of a few."""
    left, right = torch.ones(side, side, dtype=dtype), torch.ones(side, side, dtype=dtype)
    best, begun = float("inf"), perf_counter()
    with torch.inference_mode():
        while perf_counter() - begun < seconds or best == float("inf"):
            start = perf_counter()
            left @ right
            best = min(best, perf_counter() - start)
    return 2 * side**3 / best
