"""The plot of docs/performance.md: a line for each claim, its ratio with the range of the pairs, and its bar."""

import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

WORDS, PLOT, FIGURES, LINE, TOP = 560, 420, 90, 22, 46
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
GOOD, SHORT, PLAIN = "#1b7f4b", "#b3261e", "#555555"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG; without rows, nothing."""
    if not rows:
        return
    found = [value for row in rows for value in (row["low"], row["high"], row["bar"]) if value]
    low, high = min(*found, 0.8), max(*found, 2)

    def across(value: float) -> float:
        share = (math.log(max(value, low)) - math.log(low)) / (math.log(high) - math.log(low))
        return WORDS + PLOT * share

    height = TOP + LINE * len(rows) + 30
    width = WORDS + PLOT + FIGURES
    ticks = [one for one in TICKS if low <= one <= high]
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{WORDS}" y="16" fill="{PLAIN}">times as fast as the peer (logarithmic); the tick is what is asked '
        "for</text>",
    ]
    for one in ticks:
        x = across(one)
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 12}" y2="{height - 24}" stroke="#dddddd"/>')
        drawn.append(f'<text x="{x:.1f}" y="{TOP - 16}" text-anchor="middle" fill="{PLAIN}">{one:g}</text>')
    for place, row in enumerate(rows):
        drawn += _line(row, TOP + LINE * place + LINE / 2, across)
    machines = sorted({row["machine"] for row in rows})
    drawn.append(f'<text x="8" y="{height - 8}" fill="{PLAIN}" font-size="10">{escape("; ".join(machines))}</text>')
    drawn.append("</svg>")
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    partial.replace(path)


def _line(row: dict[str, Any], y: float, across: Any) -> list[str]:
    at_most, bar = row.get("at_most", False), row["bar"]
    colour = PLAIN
    if bar is not None:
        colour = GOOD if (row["ratio"] <= bar if at_most else row["ratio"] >= bar) else SHORT
    words = f"{row['claim']}; {row['peer']}"
    words = words if len(words) <= _MOST else f"{words[: _MOST - 1]}…"
    whole = escape(f"{row['claim']}, against {row['peer']}")
    drawn = [
        f'<g><title>{whole}</title><text x="{WORDS - 10}" y="{y + 4}" text-anchor="end">{escape(words)}</text>',
        f'<line x1="{across(row["low"]):.1f}" x2="{across(row["high"]):.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
        'stroke-width="2"/>',
        f'<circle cx="{across(row["ratio"]):.1f}" cy="{y}" r="4" fill="{colour}"/>',
        f'<text x="{WORDS + PLOT + 12}" y="{y + 4}" fill="{colour}">{row["ratio"]:g} x</text>',
    ]
    if bar is not None:
        x = across(bar)
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8}" y2="{y + 8}" stroke="black" stroke-width="1.5"/>')
    return [*drawn, "</g>"]


_MOST = 92
