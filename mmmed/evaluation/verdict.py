"""The answer to an experiment's question, in words, with every figure it rests on."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mmmed.evaluation.compare import Row
from mmmed.evaluation.report_data import ReportData
from mmmed.evaluation.results import primary_metrics
from mmmed.evaluation.significance import detectable_from_interval
from mmmed.page.wording import count, label, p_value, percent, points

SIGNIFICANT = 0.05


class Verdict(NamedTuple):
    """The answer in a word or two, and the figures behind it in sentences."""

    word: str
    sentences: list[str]

    @property
    def text(self) -> str:
        return " ".join([self.word, *self.sentences])


def verdict(report: ReportData) -> Verdict:
    """Answer the experiment's question from the primary comparisons: in words, with every figure it rests on."""
    primary = primary_metrics(report.rows)
    compared = [
        row for row in report.rows if row.metric == primary[row.task] and row.baseline and row.arm == report.main
    ]
    deciding = [row for row in compared if not report.controls or row.baseline in report.controls]
    if not deciding:
        return Verdict("Not tested.", ["No arm was compared with a control."])
    won = sum(is_better(row) for row in deciding)
    lost = sum(is_worse(row) for row in deciding)
    if won == len(deciding):
        word = "Yes."
    elif won:
        word = "In part."
    else:
        word = "No: it does harm." if lost else "Not shown."
    return Verdict(word, [_sentence(report, task, compared) for task in dict.fromkeys(row.task for row in compared)])


def detectable(row: Row) -> float | None:
    """Least difference this comparison would have seen at 80 % power; none where there is no interval."""
    if row.detectable is not None:
        return row.detectable
    if row.delta_low is None or row.delta_high is None or not math.isfinite(row.delta_low + row.delta_high):
        return None
    return detectable_from_interval(row.delta_low, row.delta_high)


def is_better(row: Row) -> bool:
    """Whether the difference is shown to be above 0."""
    return row.p is not None and row.p < SIGNIFICANT and (row.delta or 0.0) > 0


def is_worse(row: Row) -> bool:
    """Whether the difference is shown to be below 0."""
    return row.p is not None and row.p < SIGNIFICANT and (row.delta or 0.0) < 0


def _sentence(report: ReportData, task: str, compared: Sequence[Row]) -> str:
    rows = [row for row in compared if row.task == task]
    better, worse = [row for row in rows if is_better(row)], [row for row in rows if is_worse(row)]
    level = [row for row in rows if row not in better and row not in worse]
    clauses = []
    if better:
        clauses.append(f"better than {_names(better)} by {_span(better)} points (p\u00a0{_p_limit(better, max)})")
    if worse:
        clauses.append(f"worse than {_names(worse)} by {_span(worse)} points (p\u00a0{_p_limit(worse, max)})")
    if level:
        gap = max((gap for row in level if (gap := detectable(row)) is not None), default=None)
        unseen = f"; a difference below {percent(gap)} could have gone unseen" if gap is not None else ""
        clauses.append(
            f"not shown to differ from {_names(level)} "
            f"({_signed_span(level)} points, p\u00a0{_p_limit(level, min)}{unseen})"
        )
    first = rows[0]
    return (
        f"On {label(task)} ({count(first.n)} items), {label(report.main)} reaches {percent(first.value)}\u00a0% "
        f"{label(first.metric)} ({percent(first.low)} to {percent(first.high)}), {', and '.join(clauses)}."
    )


def _names(rows: Sequence[Row]) -> str:
    *most, last = [label(row.baseline or "") for row in rows]
    return f"{', '.join(most)} and {last}" if most else last


def _span(rows: Sequence[Row]) -> str:
    """The sizes of several differences, without their signs."""
    low, high = (percent(limit(abs(row.delta or 0.0) for row in rows)) for limit in (min, max))
    return low if low == high else f"{low} to {high}"


def _signed_span(rows: Sequence[Row]) -> str:
    low, high = (points(limit(row.delta or 0.0 for row in rows)) for limit in (min, max))
    return low if low == high else f"{low} to {high}"


def _p_limit(rows: Sequence[Row], limit: Callable[[Iterable[float]], float]) -> str:
    """The p of one comparison, or the bound that holds for all."""
    known = [row.p for row in rows if row.p is not None and math.isfinite(row.p)]
    if not known:
        return "not known"
    text = p_value(limit(known))
    sign = "=" if len({p_value(p) for p in known}) == 1 else "\N{LESS-THAN OR EQUAL TO}"
    if limit is min and sign != "=":
        sign = "\N{GREATER-THAN OR EQUAL TO}"
    return text if text.startswith("<") else f"{sign}\u00a0{text}"
