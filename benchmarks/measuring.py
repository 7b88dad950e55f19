"""What every claim about speed rests on: two ways to do the same, timed in turns, and a row of results.

Rows of all benchmarks have the same form (`Claim`), so that one plot shows them (`benchmarks/bench.py`).
"""

import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mmmed.cli.memory import AT_MOST, BLOCK, keep_freed_memory
from mmmed.models.products import OneDnnLinear
from mmmed.models.tree_attention import NAME

RESULTS = Path(__file__).parent / "results"
MEMORY = {
    "ours": {"block": BLOCK, "at_most": AT_MOST},
    "theirs": {"block": 2**25, "at_most": 2**26},  # what glibc settles at where nobody tells it
}
"""How much freed memory is kept."""


@cache
def machine() -> str:
    """Processor with its family and model, threads and versions; no name of a host."""
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(told))}
    name = known.get("model name", platform.machine())
    if {"cpu family", "model"} <= known.keys():
        name += f" (family {known['cpu family']}, model {known['model']})"
    units = "bfloat16 units" if has_bfloat16() else "no bfloat16 units"
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} threads"
    return f"{name}, {units}, {threads}, Python {platform.python_version()}, torch {torch.__version__}"


@cache
def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def stock(model: nn.Module) -> Any:
    """A copy of a model whose layers are computed as torch and transformers compute them: what a peer gets."""
    copied = copy.deepcopy(model)
    for layer in copied.modules():
        if isinstance(layer, PreTrainedModel) and layer.config._attn_implementation == NAME:
            layer.set_attn_implementation("sdpa")
        if isinstance(layer, OneDnnLinear):
            object.__setattr__(layer, "__class__", nn.Linear)
    return copied


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of a results file.

    Args:
        claim: What is done, and on what.
        peer: Who does it the other way, or what it is held against.
        ratio: How many times better ours is, the median of the pairs: of time by the clock on the wall, unless the
            claim says of what.
        low: The smallest ratio of a pair.
        high: The largest.
        equal: The largest difference between the two results, which were compared before any timing; None where there
            are not two results.
        bar: The ratio that is asked for; None where none is.
        at_most: Whether the ratio is to be at most the bar, as of memory.
        ratio_cpu: The median ratio in processor time, which other load on the machine does not move.
        more: What else was found, such as seconds.
        machine: Processor, threads and versions.
    """

    claim: str
    peer: str
    ratio: float
    low: float
    high: float
    equal: float | None = None
    bar: float | None = None
    at_most: bool = False
    ratio_cpu: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    machine: str = field(default_factory=machine)

    @property
    def verdict(self) -> str:
        """Whether it holds."""
        if self.bar is None:
            return "no bar"
        holds = self.ratio <= self.bar if self.at_most else self.ratio >= self.bar
        return f"bar {self.bar:g}: {'holds' if holds else 'falls short'}"


@dataclass(frozen=True)
class Seconds:
    """Of one run, by the clock on the wall and of the processor."""

    wall: float
    processor: float


def timed(run: Callable[[], object]) -> Seconds:
    """Run once."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    run()
    return Seconds(time.perf_counter() - begun, time.process_time() - begun_cpu)


def in_turns(
    claim: str,
    *,
    peer: str,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    equal: float | None,
    bar: float | None,
    pairs: int,
    more: dict[str, Any] | None = None,
) -> Claim:
    """Time both in turns, each first every other time, after they have been run once and found equal.

    Freed memory is kept as each keeps it by itself (`MEMORY`).
    """
    measured: dict[str, list[Seconds]] = {"theirs": [], "ours": []}
    runs = {"theirs": theirs, "ours": ours}
    for number in range(pairs):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            keep_freed_memory(**MEMORY[name])
            measured[name].append(timed(runs[name]))
        last = {name: taken[-1].wall for name, taken in measured.items()}
        print(f"  pair {number + 1}: theirs {last['theirs']:.2f} s, ours {last['ours']:.2f} s", flush=True)
    both = list(zip(measured["theirs"], measured["ours"], strict=True))
    wall = [one.wall / other.wall for one, other in both]
    processor = [one.processor / other.processor for one, other in both]
    medians = {
        f"seconds_{name}": round(statistics.median(one.wall for one in taken), 3) for name, taken in measured.items()
    }
    return Claim(
        claim=claim,
        peer=peer,
        ratio=round(statistics.median(wall), 2),
        low=round(min(wall), 2),
        high=round(max(wall), 2),
        equal=equal,
        bar=bar,
        ratio_cpu=round(statistics.median(processor), 2),
        more={**medians, "pairs": pairs, **(more or {})},
    )


def write(name: str, claims: Iterable[Claim]) -> None:
    """Print rows and put them in the place of those of the same claim and peer, whole or not at all."""
    path = RESULTS / f"{name}.json"
    rows = {(row["claim"], row["peer"]): row for row in read(path)}
    for one in claims:
        rows[one.claim, one.peer] = asdict(one)
        spread = f"{one.low} to {one.high}" + ("" if one.ratio_cpu is None else f"; CPU time {one.ratio_cpu}")
        print(f"{one.claim}, against {one.peer}: {one.ratio}x ({spread}); {one.verdict}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a results file, none where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
