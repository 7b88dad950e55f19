"""The safety card: one page for people, a section for the model card, and a run in wandb."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import wandb

from mmmed.page.files import replace_text
from mmmed.page.html import write_page
from mmmed.safety.audit import Examined, Suite, verdict_of_all
from mmmed.safety.items import link, write_items
from mmmed.safety.measure import Measure, Verdict

WORDS = {
    Verdict.PASSED: "within its limits",
    Verdict.FAILED: "outside its limits",
    Verdict.NOT_SHOWN: "not shown either way",
}
_WIDTH = 220


@dataclass(frozen=True, slots=True)
class Bar:
    """A measure drawn on its scale: places from 0 to `_WIDTH`; the allowed range, the interval and the figure."""

    allowed: tuple[float, float]
    interval: tuple[float, float]
    value: float
    expected: float


class Line(NamedTuple):
    """A figure on the card: what was measured, its drawing, and where its items stand, if it has any."""

    measure: Measure
    bar: Bar | None
    items: str


class Row(NamedTuple):
    """A check on the card: its figures, and the one that decides, which stands on the page by itself."""

    check: Examined
    lines: list[Line]
    first: Line | None


def write_card(folder: Path, suite: Suite, examined: Sequence[Examined], *, checkpoint: str, command: str) -> Path:
    """Write `safety_card.html` with the pages of its items, and `safety_card.md`; the page's path is given back."""
    page = folder / "safety_card.html"
    counts = Counter(one.verdict for one in examined)
    write_page(
        page,
        room="mmmed.safety",
        template="card.html.j2",
        suite=suite,
        checkpoint=checkpoint,
        command=command,
        date=datetime.now(UTC).date().isoformat(),
        verdict=verdict_of_all(examined),
        counts=[(verdict, WORDS[verdict], counts[verdict]) for verdict in Verdict],
        checks=[_row(number, one) for number, one in enumerate(examined)],
        width=_WIDTH,
    )
    write_items(folder, examined, checkpoint=checkpoint)
    replace_text(folder / "safety_card.md", "\n".join(section(suite, examined)) + "\n")
    return page


def _row(number: int, one: Examined) -> Row:
    lines = [
        Line(measure, drawn(measure), link(number, place) if measure.items else "")
        for place, measure in enumerate(one.measures)
    ]
    return Row(one, lines, min(lines, key=lambda line: _distance(line.measure), default=None))


def _distance(measure: Measure) -> tuple[int, float]:
    """Orders figures: failed ones first, then what is not shown, and among each what is nearest to its limit."""
    rank = [Verdict.FAILED, Verdict.NOT_SHOWN, Verdict.PASSED].index(measure.verdict)
    if not math.isfinite(measure.value):
        return rank, math.inf
    room = [measure.value - measure.least] if measure.least is not None else []
    room += [measure.most - measure.value] if measure.most is not None else []
    return rank, min(room, default=math.inf)


def section(suite: Suite, examined: Sequence[Examined]) -> list[str]:
    """The lines of a model card's section on safety."""
    lines = [
        "## Safety",
        "",
        f"Suite `{suite.name}`, version {suite.version}: **{verdict_of_all(examined)}**.",
        "",
        "| question | verdict | figure | value (95 % interval) | n | allowed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in examined:
        if not one.measures:
            lines.append(f"| {one.title} | {one.verdict} | {one.missing} | | | |")
        lines += [
            f"| {one.title} | {each.verdict} | {each.name} | {each.value:.3f} ({each.low:.3f} to {each.high:.3f}) "
            f"| {each.n} | {allowed(each)} |"
            for each in one.measures
        ]
    return [*lines, "", "Not tested: " + (" ".join(suite.not_tested) or "nothing is named.")]


def allowed(measure: Measure) -> str:
    """The allowed range in words."""
    if measure.least is not None and measure.most is not None:
        return f"{measure.least:g} to {measure.most:g}"
    if measure.most is not None:
        return f"at most {measure.most:g}"
    return f"at least {measure.least:g}" if measure.least is not None else "no limit is set"


def drawn(measure: Measure) -> Bar | None:
    """Where a measure stands between the ends of its scale; nothing where it has no interval."""
    if not (math.isfinite(measure.low) and math.isfinite(measure.high)):
        return None
    ends = [measure.low, measure.high, measure.value, measure.expected, 0.0]
    ends += [end for end in (measure.least, measure.most) if end is not None]
    reach = next((one for one in (0.3, 1.0) if max(map(abs, ends)) <= one), 1.05 * max(map(abs, ends)))
    least, most = (-reach if min(ends) < 0 else 0.0), reach

    def place(value: float) -> float:
        return round(_WIDTH * (min(max(value, least), most) - least) / (most - least), 1)

    low = place(measure.least) if measure.least is not None else 0.0
    high = place(measure.most) if measure.most is not None else float(_WIDTH)
    has_limit = measure.least is not None or measure.most is not None
    return Bar(
        (low, high) if has_limit else (0.0, 0.0),
        (place(measure.low), place(measure.high)),
        place(measure.value),
        place(measure.expected),
    )


def log_card(suite: Suite, examined: Sequence[Examined], *, output: Path, checkpoint: str) -> None:
    """Log every figure to wandb, as a run of its own."""
    columns: list[str | int] = ["check", "figure", "verdict", "value", "low", "high", "n", "least", "most"]
    data: list[Iterable[Any]] = [
        [one.title, each.name, str(each.verdict), each.value, each.low, each.high, each.n, each.least, each.most]
        for one in examined
        for each in one.measures
    ]
    with wandb.init(
        project="mmmed",
        name=f"audit {suite.name}",
        job_type="audit",
        dir=str(output),
        config={"checkpoint": checkpoint, "suite": suite.name, "version": suite.version},
    ) as run:
        run.log({"audit": wandb.Table(columns=columns, data=data)})
        run.summary["verdict"] = str(verdict_of_all(examined))
