"""The page a reader judges an experiment by: one HTML file that needs nothing beside it.

Pictures are data URIs, plots are inline SVG, and a content policy in the page forbids every other load. All text from
data sets is escaped: by the template, and by `escape` inside the plots.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from PIL import Image

from mmmed.evaluation.compare import Row, primary_metrics
from mmmed.evaluation.drawing import (
    Curve,
    ForestColumn,
    ForestGroup,
    ForestLine,
    ForestMark,
    charts,
    domain_of,
    forest,
)
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.scorers import ChoiceScorer, ExactMatchScorer, normalise
from mmmed.evaluation.significance import PERMUTATIONS, detectable_from_interval
from mmmed.evaluation.statistics import DRAWS
from mmmed.page.html import data_uri, write_page
from mmmed.page.wording import count, label, p_value, percent, points
from mmmed.records import Quarantined

QUARANTINE_SHOWN = 500
SIGNIFICANT = 0.05


class Part(NamedTuple):
    """One part of the model and how much of it was trained."""

    name: str
    parameters: int
    trained: int


class DataCount(NamedTuple):
    """How many records of one source went into each split, and under which licence."""

    source: str
    licence: str
    records: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One item to show: what was asked about the image, what was said, and what the control said.

    Args:
        image: What the arm saw; none for items without one.
        prediction: The main arm's answer.
        control: The control's answer to the same item.
    """

    image: Image.Image | None
    prediction: Prediction
    control: Prediction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything the page shows; what is left empty is left out.

    Args:
        title: Name of the experiment.
        rows: All figures, p-values adjusted.
        main: The arm whose answers are judged.
        question: What the experiment asks, in words.
        controls: The baselines whose defeat answers the question, such as the arms without the true image; all
            baselines if empty.
        arms: What each arm is, by name.
        curves: Courses of training.
        pictures: Items with their answers.
        quarantined: Records that were set aside.
        parts: Parts of the model and their parameters.
        data: Records by source and split.
        config: The whole configuration as YAML.
        commands: Shell lines that make this result again.
        environment: Versions, by name.
    """

    title: str
    rows: Sequence[Row]
    main: str
    question: str = "Does the image matter?"
    controls: Sequence[str] = ()
    arms: Mapping[str, str] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    pictures: Sequence[Picture] = ()
    quarantined: Sequence[Quarantined] = ()
    parts: Sequence[Part] = ()
    data: Sequence[DataCount] = ()
    config: str = ""
    commands: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Verdict(NamedTuple):
    """The answer in a word or two, and the figures behind it in sentences."""

    word: str
    sentences: list[str]

    @property
    def text(self) -> str:
        return " ".join([self.word, *self.sentences])


class Card(NamedTuple):
    """A picture made ready for the page."""

    picture: str
    prediction: Prediction
    answers: list["Said"]


class Said(NamedTuple):
    """One arm's answer on a card; `right` is none where the answer could not be scored."""

    arm: str
    answer: str
    right: bool | None
    confidence: float | None


def render(report: ReportData, path: Path) -> None:
    """Write the report as one HTML file, whole or not at all.

    Raises:
        OutputError: The folder cannot be written to.
    """
    primary = primary_metrics(report.rows)
    write_page(
        path,
        room="mmmed.evaluation",
        template="report.html.j2",
        report=report,
        verdict=verdict(report),
        primary_rows=_by_task([row for row in report.rows if row.metric == primary[row.task]]),
        other_rows=_by_task([row for row in report.rows if row.metric != primary[row.task]]),
        forest_wide=forest_wide(report, primary),
        forests_narrow=forests_narrow(report, primary),
        charts=charts(report.curves),
        groups=cards(report.pictures),
        quarantine=Counter((record.source, record.reason) for record in report.quarantined).most_common(),
        quarantine_shown=QUARANTINE_SHOWN,
        splits=list(dict.fromkeys(split for row in report.data for split in row.records)),
        detectable=detectable,
        draws=DRAWS,
        permutations=PERMUTATIONS,
    )


def verdict(report: ReportData) -> Verdict:
    """Answer the experiment's question from the primary comparisons: in words, with every figure it rests on."""
    primary = primary_metrics(report.rows)
    compared = [
        row for row in report.rows if row.metric == primary[row.task] and row.baseline and row.arm == report.main
    ]
    deciding = [row for row in compared if not report.controls or row.baseline in report.controls]
    if not deciding:
        return Verdict("Not tested.", ["No arm was compared with a control."])
    won = sum(_is_better(row) for row in deciding)
    lost = sum(_is_worse(row) for row in deciding)
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


def cards(pictures: Iterable[Picture]) -> dict[str, list[Card]]:
    """Group pictures: answers the control changes first, then the other right and wrong ones."""
    groups: dict[str, list[Card]] = {"changed": [], "right": [], "wrong": []}
    for picture in pictures:
        answers = [_said(each) for each in (picture.prediction, picture.control) if each is not None]
        is_changed = len({normalise(said.answer) for said in answers}) > 1
        group = "changed" if is_changed else "right" if answers[0].right else "wrong"
        uri = data_uri(picture.image) if picture.image is not None else ""
        groups[group].append(Card(uri, picture.prediction, answers))
    return groups


def forest_wide(report: ReportData, primary: Mapping[str, str]) -> Markup:
    """Values and differences side by side on the same lines, for a wide screen."""
    groups, domains = _forest_groups(report, primary)
    columns = (
        ForestColumn("Value, %", x=210, plot=250, figures=140, domain=domains[0], has_zero_line=False),
        ForestColumn(_difference_title(report), x=640, plot=250, figures=150, domain=domains[1], has_zero_line=True),
    )
    return forest(groups, columns=columns, label_width=198, width=1040, is_short=False) if groups else Markup("")


def forests_narrow(report: ReportData, primary: Mapping[str, str]) -> list[Markup]:
    """Values and differences as two plots below each other, for a phone."""
    groups, domains = _forest_groups(report, primary)
    values = [(title, [_only(line, 0) for line in lines]) for title, lines in groups]
    differences = [(title, [_only(line, 1) for line in lines if line.estimates[1]]) for title, lines in groups]
    column = ForestColumn("Value, %", x=110, plot=118, figures=108, domain=domains[0], has_zero_line=False)
    against = column._replace(title=_difference_title(report), domain=domains[1], has_zero_line=True)
    return [
        forest(kept, columns=(each,), label_width=106, width=336, is_short=True)
        for each, chosen in ((column, values), (against, differences))
        if (kept := [(title, lines) for title, lines in chosen if lines])
    ]


def _by_task(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row)
    return groups


def _only(line: ForestLine, column: int) -> ForestLine:
    return line._replace(estimates=(line.estimates[column],))


def _is_better(row: Row) -> bool:
    return row.p is not None and row.p < SIGNIFICANT and (row.delta or 0.0) > 0


def _is_worse(row: Row) -> bool:
    return row.p is not None and row.p < SIGNIFICANT and (row.delta or 0.0) < 0


def _sentence(report: ReportData, task: str, compared: Sequence[Row]) -> str:
    rows = [row for row in compared if row.task == task]
    better, worse = [row for row in rows if _is_better(row)], [row for row in rows if _is_worse(row)]
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


def _said(prediction: Prediction) -> Said:
    scorer = ChoiceScorer() if prediction.options else ExactMatchScorer()
    value = scorer.score(prediction).value
    return Said(
        arm=prediction.arm,
        answer=prediction.answer,
        right=None if value is None else value == 1.0,
        confidence=prediction.confidence,
    )


def _difference_title(report: ReportData) -> str:
    return f"{label(report.main)} minus baseline, points"


def _forest_groups(
    report: ReportData, primary: Mapping[str, str]
) -> tuple[list[ForestGroup], tuple[tuple[float, float], tuple[float, float]]]:
    """Lines by task, the main arm first, and the range that values and differences span."""
    shown = [row for row in report.rows if row.metric == primary[row.task] and math.isfinite(row.value)]
    against = {(row.task, row.baseline): row for row in shown if row.baseline is not None and row.arm == report.main}
    groups: list[ForestGroup] = []
    for task in dict.fromkeys(row.task for row in shown):
        alone = [row for row in shown if row.task == task and row.baseline is None]
        alone.sort(key=lambda row: row.arm != report.main)
        if alone:
            title = f"{label(task)}: {label(primary[task])}, {count(alone[0].n)} items"
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
        _is_better(row) or _is_worse(row),
    )
