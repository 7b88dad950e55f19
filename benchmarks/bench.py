"""Run every benchmark of speed, each in a process of its own, and draw what all of them found.

    python benchmarks/bench.py [--pairs N] [--shared FOLDER] [--only NAME …] [--draw]

`--pairs 1` is the quickest look; figures that are told need 5 or more. What another package is needed for, and is not
there, is left out with a line that says so; the data sets are those that the sources read, in `--shared`. `--draw`
draws what is in benchmarks/results and runs nothing.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from drawing import draw
from measuring import RESULTS, read

HERE = Path(__file__).parent
PLOT = HERE.parent / "docs" / "performance.svg"
SPEED = (
    "training_step",
    "trl_collator",
    "layers",
    "option_scoring",
    "generation",
    "loading",
    "leakage",
    "phantom_rendering",
)
"""Names of the results that are drawn."""

NEEDS = {"trl_collator": "trl", "option_scoring": "lm_eval"}
"""What must be importable: packages that mmmed itself does without."""


def commands(pairs: int, shared: str) -> dict[str, list[list[str]]]:
    """What to run for each name."""
    return {
        "training_step": [["align,instruct,rate,memory", "float32,autocast", str(pairs)]],
        "trl_collator": [["align,instruct", str(pairs)]],
        "layers": [[str(pairs)]],
        "option_scoring": [["16", str(pairs), shared]],
        "generation": [["64", str(pairs)]],
        "loading": [["speed", shared, str(pairs)], ["million", "1000000" if pairs > 1 else "20000"]],
        "leakage": [["scale", "100000" if pairs > 1 else "5000"]],
        "phantom_rendering": [["400" if pairs > 1 else "64"]],
    }


def main() -> None:
    """Run, and end with 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--shared", default="../shared/data")
    parser.add_argument("--only", nargs="*", choices=SPEED, default=list(SPEED))
    parser.add_argument("--draw", action="store_true")
    asked = parser.parse_args()
    failed = []
    for name, runs in commands(asked.pairs, asked.shared).items():
        if asked.draw or name not in asked.only:
            continue
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            print(f"{name}: left out, since {NEEDS[name]} is not installed", flush=True)
            continue
        for words in runs:
            print(f"{name} {' '.join(words)}", flush=True)
            if subprocess.run([sys.executable, str(HERE / f"{name}.py"), *words], check=False).returncode:
                failed.append(name)
    rows = [row for name in SPEED for row in read(RESULTS / f"{name}.json")]
    draw(rows, PLOT)
    if failed:
        raise SystemExit(f"these failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
