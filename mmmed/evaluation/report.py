"""The page a reader judges an experiment by: one HTML file that needs nothing beside it.

Pictures are data URIs, plots are inline SVG, and a content policy in the page forbids every other load. All text from
data sets is escaped: by the template, and by `escape` inside the plots.
"""

import base64
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image, ImageOps

from mmmed.evaluation.compare import Row, primary_metrics
from mmmed.evaluation.predictions import Prediction, replace_text
from mmmed.evaluation.scorers import ChoiceScorer, ExactMatchScorer, normalise
from mmmed.evaluation.statistics import DRAWS, PERMUTATIONS, detectable_from_interval
from mmmed.records import Quarantined

PICTURE_SIDE = 224
QUARANTINE_SHOWN = 500
SIGNIFICANT = 0.05
NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"


class Curve(NamedTuple):
    """One measured course of training; curves with the same panel share a chart."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    panel: str = ""


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


class ForestMark(NamedTuple):
    """A point of a forest plot with its interval, and its figures in a long and a short form.

    It stands out where it is the main arm's value, or a difference whose adjusted p is below the level.
    """

    value: float
    low: float
    high: float
    long: str
    short: str
    stands_out: bool


class ForestLine(NamedTuple):
    """One line of a forest plot: a label, and one estimate (or none) for each of its columns."""

    label: str
    is_main: bool
    estimates: tuple[ForestMark | None, ...]


class ForestColumn(NamedTuple):
    """One column of a forest plot: where it starts and how wide plot and figures are, in pixels."""

    title: str
    x: float
    plot: float
    figures: float
    domain: tuple[float, float]
    has_zero_line: bool


def render(report: ReportData, path: Path) -> None:
    """Write the report as one HTML file, whole or not at all.

    Raises:
        OutputError: The folder cannot be written to.
    """
    environment = Environment(
        loader=PackageLoader("mmmed.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "p_value": p_value, "count": count, "label": label}
    primary = primary_metrics(report.rows)
    html = environment.get_template("report.html.j2").render(
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
    # A half of a surrogate pair in a model's answer cannot be written; the page shows a question mark instead.
    replace_text(path, html.lstrip().encode("utf-8", "replace").decode("utf-8"))


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


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, without the sign; a dash where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{100 * value:+.{digits}f}".replace("-", MINUS)
    return text if any(digit in text for digit in "123456789") else text.lstrip("+" + MINUS)


def p_value(value: float | None) -> str:
    """A p-value as it is printed in papers; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"<{THIN_SPACE}0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def count(value: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", THIN_SPACE)


def label(name: str) -> str:
    """A metric's, task's or arm's name as words."""
    return name.replace("_", " ").replace("f1", "F1")


def detectable(row: Row) -> float | None:
    """Least difference this comparison would have seen at 80 % power; none where there is no interval."""
    if row.delta_low is None or row.delta_high is None or not math.isfinite(row.delta_low + row.delta_high):
        return None
    return detectable_from_interval(row.delta_low, row.delta_high)


def data_uri(image: Image.Image, *, side: int = PICTURE_SIDE) -> str:
    """A JPEG of at most `side` pixels as text that stands in the page itself."""
    small = image.convert("L" if image.mode in {"1", "L"} else "RGB")
    small = ImageOps.contain(small, (side, side)) if max(small.size) > side else small
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


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
    return _forest(groups, columns=columns, label_width=198, width=1040, is_short=False) if groups else Markup("")


def forests_narrow(report: ReportData, primary: Mapping[str, str]) -> list[Markup]:
    """Values and differences as two plots below each other, for a phone."""
    groups, domains = _forest_groups(report, primary)
    values = [(title, [_only(line, 0) for line in lines]) for title, lines in groups]
    differences = [(title, [_only(line, 1) for line in lines if line.estimates[1]]) for title, lines in groups]
    column = ForestColumn("Value, %", x=110, plot=118, figures=108, domain=domains[0], has_zero_line=False)
    against = column._replace(title=_difference_title(report), domain=domains[1], has_zero_line=True)
    return [
        _forest(kept, columns=(each,), label_width=106, width=336, is_short=True)
        for each, chosen in ((column, values), (against, differences))
        if (kept := [(title, lines) for title, lines in chosen if lines])
    ]


def charts(curves: Iterable[Curve]) -> list[Markup]:
    """One line chart per panel; a curve without a panel has a chart of its own."""
    panels: dict[str, list[Curve]] = {}
    for each in curves:
        panels.setdefault(each.panel or each.name, []).append(Curve(*each))
    return [chart for title, lines in panels.items() if (chart := _line_chart(title, lines))]


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


ForestGroup = tuple[str, list[ForestLine]]


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
    return groups, (_domain(pair[0] for pair in estimates), _domain((pair[1] for pair in estimates), includes=0.0))


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


def _domain(estimates: Iterable[ForestMark | None], includes: float | None = None) -> tuple[float, float]:
    """The range of all limits with a little air, never empty."""
    found = [x for each in estimates if each for x in (each.value, each.low, each.high) if math.isfinite(x)]
    found += [] if includes is None else [includes]
    if not found:
        return (0.0, 1.0)
    air = max(0.04 * (max(found) - min(found)), 0.01)
    return (min(found) - air, max(found) + air)


def _ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Round numbers within a range, no more than `most`."""
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (power * factor) < most)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step) + 1)]


_LINE = 27
_GROUP = 40
_HEAD = 44


def _forest(
    groups: Sequence[ForestGroup],
    *,
    columns: Sequence[ForestColumn],
    label_width: float,
    width: int,
    is_short: bool,
) -> Markup:
    """Draw lines with their estimates as squares on intervals, one column beside the other."""
    body: list[Markup] = []
    y = float(_HEAD)
    for number, (title, lines) in enumerate(groups):
        if number:
            body.append(_tag("line", x1=0, x2=width, y1=y + 8, y2=y + 8, class_="rule"))
        body.append(_text(title, x=0, y=y + 27, class_="group"))
        y += _GROUP
        for line in lines:
            middle = y + _LINE / 2
            body.append(_text(_fitting(line.label, label_width), x=0, y=middle + 4.5, class_=_emphasis(line)))
            for column, estimate in zip(columns, line.estimates, strict=True):
                if estimate is not None:
                    body.append(_forest_mark(column, estimate, y=middle, is_short=is_short))
            y += _LINE
    bottom = y + 8
    frames = [_forest_frame(column, bottom=bottom) for column in columns]
    summary = "; ".join(f"{title}: {len(lines)} arms" for title, lines in groups)
    return _svg(
        [*frames, *body],
        width=width,
        height=bottom + 2,
        title=f"Forest plot of {' and of '.join(column.title for column in columns)}. {summary}. Figures in the table.",
    )


def _forest_frame(column: ForestColumn, *, bottom: float) -> Markup:
    parts = [_text(column.title, x=column.x, y=13, class_="axis-title")]
    for tick in _ticks(*column.domain, most=5 if column.plot > 200 else 4):
        x = _position(column, tick)
        is_zero = column.has_zero_line and abs(tick) < 1e-9
        parts.append(_tag("line", x1=x, x2=x, y1=_HEAD, y2=bottom, class_="zero" if is_zero else "grid"))
        text = points(tick, 0) if column.has_zero_line else percent(tick, 0)
        parts.append(_text(text, x=x, y=_HEAD - 7, class_="tick", text_anchor="middle"))
    return Markup("").join(parts)


def _forest_mark(column: ForestColumn, estimate: ForestMark, *, y: float, is_short: bool) -> Markup:
    kind = "main" if estimate.stands_out else "other"
    x = _position(column, estimate.value)
    parts = []
    if math.isfinite(estimate.low + estimate.high):
        ends = _position(column, estimate.low), _position(column, estimate.high)
        parts.append(_tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_=f"interval {kind}"))
    parts.append(_tag("circle", cx=x, cy=y, r=5, class_=f"point {kind}"))
    text = estimate.short if is_short else estimate.long
    class_ = "figures strong" if estimate.stands_out else "figures"
    right = column.x + column.plot + column.figures
    parts.append(_text(text, x=right, y=y + 4.5, class_=class_, text_anchor="end"))
    return Markup("").join(parts)


def _position(column: ForestColumn, value: float) -> float:
    low, high = column.domain
    return column.x + column.plot * (value - low) / (high - low)


def _emphasis(line: ForestLine) -> str:
    return "label strong" if line.is_main else "label"


def _fitting(text: str, width: float) -> str:
    """Shorten a label to what fits, at about 6.8 px a letter."""
    letters = int(width / 6.8)
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


_CHART_WIDTH, _CHART_HEIGHT = 330, 200
_CHART_LEFT, _CHART_RIGHT, _CHART_TOP, _CHART_BOTTOM = 56, 20, 14, 28


def _line_chart(title: str, curves: Sequence[Curve]) -> Markup:
    """Draw curves over steps, told apart by colour and by dash, with the last value in the legend."""
    drawn = [
        (each.name, [(x, y) for x, y in zip(each.steps, each.values, strict=False) if math.isfinite(x + y)])
        for each in curves
    ]
    drawn = [(name, dots) for name, dots in drawn if dots]
    if not drawn:
        return Markup("")
    xs, ys = zip(*(dot for _, dots in drawn for dot in dots), strict=True)
    (x_low, x_high), (y_low, y_high) = _spread(xs), _spread(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) * (_CHART_WIDTH - _CHART_LEFT - _CHART_RIGHT)
        up = (y - y_low) / (y_high - y_low) * (_CHART_HEIGHT - _CHART_TOP - _CHART_BOTTOM)
        return _CHART_LEFT + across, _CHART_HEIGHT - _CHART_BOTTOM - up

    parts = []
    for tick in _ticks(y_low, y_high, most=4):
        y = place(x_low, tick)[1]
        parts.append(_tag("line", x1=_CHART_LEFT, x2=_CHART_WIDTH - _CHART_RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(_text(f"{tick:.4g}", x=_CHART_LEFT - 7, y=y + 4, class_="tick", text_anchor="end"))
    for tick in _ticks(x_low, x_high, most=5):
        x = place(tick, y_low)[0]
        parts.append(_text(f"{tick:.6g}", x=x, y=_CHART_HEIGHT - 8, class_="tick", text_anchor="middle"))
    for number, (_, dots) in enumerate(drawn):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*dot) for dot in dots))
        x, y = place(*dots[-1])
        parts.append(_tag("polyline", points=path, class_=f"curve series{number % 4}"))
        parts.append(_tag("circle", cx=x, cy=y, r=3.2, class_=f"end series{number % 4}"))
    summary = "; ".join(f"{name} ends at {dots[-1][1]:.3g}" for name, dots in drawn)
    svg = _svg(parts, width=_CHART_WIDTH, height=_CHART_HEIGHT, title=f"{title} by training step. {summary}.")
    keys = Markup("").join(
        Markup(
            '<li><svg class="key" width="22" height="10" aria-hidden="true"><line x1="1" x2="21" y1="5" y2="5"'
            ' class="curve series{}"/></svg>{} <span class="last">{}</span></li>'
        ).format(number % 4, label(name), f"{dots[-1][1]:.3g}")
        for number, (name, dots) in enumerate(drawn)
    )
    return Markup('<figure class="chart"><figcaption>{}</figcaption>{}<ul class="legend">{}</ul></figure>').format(
        label(title), svg, keys
    )


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """The range of values, given some width if they are all the same."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _svg(parts: Sequence[Markup], *, width: int, height: float, title: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {:.0f}" width="{}" height="{:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, width, height, title, Markup("").join(parts)
    )


def _tag(name: str, **attributes: str | float) -> Markup:
    written = Markup("").join(
        # The underscore at the end keeps `class` a legal name here.
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), f"{x:.1f}" if isinstance(x, float) else x)
        for key, x in attributes.items()
    )
    return Markup("<{}{}/>").format(name, written)


def _text(text: str, **attributes: str | float) -> Markup:
    opening = _tag("text", **attributes)[:-2]
    return opening + Markup(">") + escape(text) + Markup("</text>")
