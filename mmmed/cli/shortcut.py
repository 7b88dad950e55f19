"""The command that doses a shortcut."""

from __future__ import annotations

from pathlib import Path

from mmmed.inference.loading import load
from mmmed.safety.shortcut_study import load_study, run_study, steps, write_study


def shortcut(study: str, output: str = "outputs/shortcut") -> None:
    """Plant a shortcut in rising doses and draw what an audit finds of it.

    Args:
        study: File of the study.
        output: Folder of shortcut.json and shortcut.svg.
    """
    described = load_study(study)
    done = run_study(described, load(described.checkpoint), tell=print)
    for one in steps(done):
        print(f"{one.name}: {one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})")
    print(write_study(Path(output), described, done))
