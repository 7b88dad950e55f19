"""Two ways to do the same, timed in turns: what every claim about speed rests on."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of a results file.

    Args:
        claim: What is done, and on what.
        peer: Who does it the other way.
        ratio: The peer's time over ours, the median of the pairs, by the clock on the wall.
        low: The smallest ratio of a pair.
        high: The largest.
        equal: The largest difference between the two results, which were compared before any timing.
        bar: The ratio that is asked for.
        ratio_cpu: The median ratio in processor time, which other load on the machine does not move.
        machine: Processor, threads and versions.
    """

    claim: str
    peer: str
    ratio: float
    low: float
    high: float
    equal: float
    bar: float
    ratio_cpu: float
    machine: str


def in_turns(
    claim: str,
    *,
    peer: str,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    equal: float,
    bar: float,
    pairs: int,
) -> Claim:
    """Time both in turns, each first every other time, after they have been run once and found equal."""
    wall, processor = [], []
    for number in range(pairs):
        times = {}
        for name, run in (("theirs", theirs), ("ours", ours))[:: 1 if number % 2 else -1]:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            run()
            times[name] = (time.perf_counter() - begun, time.process_time() - begun_cpu)
        wall.append(times["theirs"][0] / times["ours"][0])
        processor.append(times["theirs"][1] / times["ours"][1])
        print(f"  pair {number + 1}: theirs {times['theirs'][0]:.2f} s, ours {times['ours'][0]:.2f} s", flush=True)
    made = Claim(
        claim=claim,
        peer=peer,
        ratio=round(statistics.median(wall), 2),
        low=round(min(wall), 2),
        high=round(max(wall), 2),
        equal=equal,
        bar=bar,
        ratio_cpu=round(statistics.median(processor), 2),
        machine=f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    )
    verdict = "holds" if made.ratio >= bar else "falls short"
    print(f"{claim}: {made.ratio}x ({made.low} to {made.high}; CPU time {made.ratio_cpu}x), bar {bar}x: {verdict}")
    return made


def write(name: str, claims: list[Claim]) -> None:
    """Keep the rows; a claim that was measured before and not now keeps its row."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text()) if path.is_file() else []
    kept = [row for row in before if row["claim"] not in {one.claim for one in claims}]
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps([*kept, *map(asdict, claims)], indent=1) + "\n")
