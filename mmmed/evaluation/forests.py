"""The forest plots of a report: every arm's figure, and the main arm's difference from it, on the same lines."""

import math
from collections.abc import Mapping

from markupsafe import Markup

from mmmed.evaluation.compare import Row
from mmmed.evaluation.drawing import ForestColumn, ForestGroup, ForestLine, ForestMark, domain_of, forest
from mmmed.evaluation.report_data import ReportData
from mmmed.evaluation.verdict import is_better, is_worse
from mmmed.page.wording import count, label, percent, points


def forest_wide(report: ReportData, primary: Mapping[str, str]) -> Markup:
    """Values and differences side by side on the same lines, for a wide screen."""
    groups, domains = _forest_groups(report, primary, is_short=False)
    columns = (
        ForestColumn("Value, %", x=210, plot=250, figures=140, domain=domains[0], has_zero_line=False),
        ForestColumn(_difference_title(report), x=640, plot=222, figures=178, domain=domains[1], has_zero_line=True),
    )
    return forest(groups, columns=columns, label_width=198, width=1040, is_short=False) if groups else Markup("")


def forests_narrow(report: ReportData, primary: Mapping[str, str]) -> list[Markup]:
    """Values and differences as two plots below each other, for a phone."""
    groups, domains = _forest_groups(report, primary, is_short=True)
    values = [(title, [_only(line, 0) for line in lines]) for title, lines in groups]
    differences = [(title, [_only(line, 1) for line in lines if line.estimates[1]]) for title, lines in groups]
    column = ForestColumn("Value, %", x=110, plot=118, figures=108, domain=domains[0], has_zero_line=False)
    against = column._replace(title=_difference_title(report), domain=domains[1], has_zero_line=True)
    return [
        forest(kept, columns=(each,), label_width=106, width=336, is_short=True)
        for each, chosen in ((column, values), (against, differences))
        if (kept := [(title, lines) for title, lines in chosen if lines])
    ]


def _only(line: ForestLine, column: int) -> ForestLine:
    return line._replace(estimates=(line.estimates[column],))


def _difference_title(report: ReportData) -> str:
    return f"{label(report.main)} minus baseline, points"


def _forest_groups(
    report: ReportData, primary: Mapping[str, str], *, is_short: bool
) -> tuple[list[ForestGroup], tuple[tuple[float, float], tuple[float, float]]]:
    """Lines by task, the main arm first, and the range that values and differences span; the short title leaves the
    metric to the text."""
    shown = [row for row in report.rows if row.metric == primary[row.task] and math.isfinite(row.value)]
    against = {(row.task, row.baseline): row for row in shown if row.baseline is not None and row.arm == report.main}
    groups: list[ForestGroup] = []
    for task in dict.fromkeys(row.task for row in shown):
        alone = [row for row in shown if row.task == task and row.baseline is None]
        alone.sort(key=lambda row: row.arm != report.main)
        if alone:
            metric = "" if is_short else f": {label(primary[task])}"
            title = f"{label(task)}{metric}, {count(alone[0].n)} items"
            lines = [
                ForestLine(
                    label(row.arm),
                    row.arm == report.main,
                    (_value(row, is_main=row.arm == report.main), _difference(against.get((task, row.arm)))),
                )
                for row in alone
            ]
            groups.append((title, lines))
    estimates = [line.estimates for _, lines in groups for line in lines]
    return groups, (domain_of(pair[0] for pair in estimates), domain_of((pair[1] for pair in estimates), includes=0.0))


def _value(row: Row, *, is_main: bool) -> ForestMark:
    return ForestMark(
        row.value,
        row.low,
        row.high,
        f"{percent(row.value)}  [{percent(row.low)}, {percent(row.high)}]",
        f"{percent(row.value, 0)} [{percent(row.low, 0)}, {percent(row.high, 0)}]",
        is_main,
    )


def _difference(row: Row | None) -> ForestMark | None:
    if row is None or row.delta is None or not math.isfinite(row.delta):
        return None
    low = math.nan if row.delta_low is None else row.delta_low
    high = math.nan if row.delta_high is None else row.delta_high
    return ForestMark(
        row.delta,
        low,
        high,
        f"{points(row.delta)}  [{points(low)}, {points(high)}]",
        f"{points(row.delta, 0)} [{points(low, 0)}, {points(high, 0)}]",
        is_better(row) or is_worse(row),
    )
