"""Plots of the report as inline SVG: forest plots and learning curves; all text in them is escaped."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from mmmed.page.wording import label, percent, points


class Curve(NamedTuple):
    """One measured course of training; curves with the same panel share a chart."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    panel: str = ""


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


ForestGroup = tuple[str, list[ForestLine]]


def charts(curves: Iterable[Curve]) -> list[Markup]:
    """One line chart per panel; a curve without a panel has a chart of its own."""
    panels: dict[str, list[Curve]] = {}
    for each in curves:
        panels.setdefault(each.panel or each.name, []).append(Curve(*each))
    return [chart for title, lines in panels.items() if (chart := _line_chart(title, lines))]


def domain_of(estimates: Iterable[ForestMark | None], includes: float | None = None) -> tuple[float, float]:
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


def forest(
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
