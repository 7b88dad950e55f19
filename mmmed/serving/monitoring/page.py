"""The page of a watched log: what changed, since when, how it went, and which studies speak for it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from mmmed.errors import ConfigError
from mmmed.evaluation.statistics import Estimate
from mmmed.page.html import write_page
from mmmed.page.wording import NOTHING
from mmmed.serving.monitoring.change import Change, changes
from mmmed.serving.monitoring.record import Log
from mmmed.serving.monitoring.signals import GROUPS
from mmmed.serving.monitoring.watch import Group, Watched

STUDIES_SHOWN = 12
"""Codes that are shown at once; the others unfold."""

_WIDTH, _HEIGHT = 330, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 24
_MOST_POINTS = 60


class Point(NamedTuple):
    """A batch on a chart, in pixels, with its interval and its figure in words."""

    x: float
    y: float
    low: float
    high: float
    told: str


class Chart(NamedTuple):
    """One course over studies: points, a line of what is usual or allowed, and where the alarm was raised.

    Args:
        title: What.
        points: The batches.
        usual: Height of the line, and of the band around it.
        band: Its upper and lower end.
        since: Where the change begins; none without an alarm.
        ticks: Heights with their labels.
        ends: Labels of the first and the last study.
    """

    title: str
    points: tuple[Point, ...]
    usual: float | None
    band: tuple[float, float] | None
    since: float | None
    ticks: tuple[tuple[float, str], ...]
    ends: tuple[str, str]


class Told(NamedTuple):
    """A group as the page shows it."""

    group: Group
    question: str
    changes: tuple[Change, ...]
    charts: tuple[Chart, ...]
    raised: str
    since: str
    studies: int | None


def check_study_url(study_url: str) -> str:
    """The address of a study's page, with {study} in the place of its code.

    Raises:
        ConfigError: It is no such address.
    """
    if study_url and (not study_url.startswith(("https://", "http://", "/")) or study_url.count("{study}") != 1):
        raise ConfigError(
            f"--study_url {study_url!r} is no address with {{study}} in it; give https://desk.example/studies/{{study}}"
        )
    return study_url


def write_watched(path: Path, watched: Watched, *, log: Log, name: str, study_url: str, command: str) -> None:
    """Write the page, whole or not at all.

    Raises:
        OutputError: The folder cannot be written to.
    """
    told = [_told(watched, group) for group in watched.groups.values()]
    standing = [one.name for one in watched.alarms]
    told.sort(key=lambda one: standing.index(one.group.name) if one.raised else len(standing))
    write_page(
        path,
        room="mmmed.serving.monitoring",
        template="monitor.html.j2",
        watched=watched,
        told=told,
        log=log,
        name=name,
        command=command,
        verdict=_verdict(watched),
        figure=figure,
        day=day,
        address=lambda code: study_url.replace("{study}", quote(code, safe="")) if study_url else "",
        shown=STUDIES_SHOWN,
        evidence=evidence_in_words,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        top=_TOP,
        bottom=_HEIGHT - _BOTTOM,
    )


def _verdict(watched: Watched) -> str:
    alarms = [one.name for one in watched.alarms]
    if alarms:
        return f"Something has changed: {', '.join(alarms)}."
    return "Nothing has been shown to have changed." if watched.monitored else "No study has come since the reference."


def _told(watched: Watched, group: Group) -> Told:
    found = sorted(changes(group), key=lambda one: -max(one.course.money, default=0.0))
    raised = group.ends[group.raised] if group.raised is not None else None
    alarm = raised is not None
    begun = group.codes[group.cut[group.since].start] if group.cut else ""
    return Told(
        group=group,
        question=GROUPS[group.name],
        changes=tuple(found),
        charts=(_evidence_chart(watched, group), *(chart for one in found if (chart := _chart(one, group, alarm)))),
        raised=day(raised.isoformat()) if raised else "",
        since=f"study {begun}" if alarm else "",
        studies=watched.studies_until(group),
    )


def figure(estimate: Estimate) -> str:
    """A figure with its interval; a dash where there is none."""
    if not math.isfinite(estimate.value):
        return NOTHING
    if not math.isfinite(estimate.low):
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def day(time: str) -> str:
    """A moment without its seconds."""
    return time[:16].replace("T", " ")


def evidence_in_words(money: Sequence[float]) -> str:
    """The most there ever was, in a form that is short however large it is."""
    most = max(money, default=1.0)
    return f"{most:.2g}" if most < 1e6 else f"10^{math.floor(math.log10(most))}"


def _evidence_chart(watched: Watched, group: Group) -> Chart:
    """Evidence on a scale of powers of ten, with what it takes for an alarm if no other group stands in one."""
    needed = math.log10(len(watched.groups) / watched.alpha)
    heights = [math.log10(max(one, 1e-3)) for one in group.money]
    figures = [Estimate(height, math.nan, math.nan, math.nan) for height in heights]
    told = [f"evidence {evidence_in_words([one])}" for one in group.money]
    return _drawn(
        "Evidence, powers of ten", figures, told, group, usual=needed, band=None, alarm=group.raised is not None
    )


def _chart(change: Change, group: Group, alarm: bool) -> Chart | None:
    """A member's figure in each batch, or of what is not one figure, its own evidence."""
    signal = change.course.signal
    if signal.shape in {"vectors", "kinds"}:
        if len(group.courses) == 1:
            return None
        heights = [Estimate(math.log10(max(one, 1e-3)), math.nan, math.nan, math.nan) for one in change.course.money]
        told = [f"evidence {evidence_in_words([one])}" for one in change.course.money]
        return _drawn(
            f"{signal.name}: evidence, powers of ten", heights, told, group, usual=None, band=None, alarm=alarm
        )
    band = (change.before.low, change.before.high)
    return _drawn(
        signal.name,
        change.figures,
        [figure(one) for one in change.figures],
        group,
        usual=change.before.value,
        band=band if all(map(math.isfinite, band)) else None,
        alarm=alarm,
    )


def _drawn(
    title: str,
    figures: Sequence[Estimate],
    told: Sequence[str],
    group: Group,
    *,
    usual: float | None,
    band: tuple[float, float] | None,
    alarm: bool,
) -> Chart:
    # Intervals of single studies can be wide; the scale is that of figures and of what is usual.
    known = [(place, one) for place, one in enumerate(figures) if math.isfinite(one.value)]
    step = max(1, math.ceil(len(known) / _MOST_POINTS))
    known = known[(len(known) - 1) % step :: step] if known else []
    heights = [one.value for _, one in known] + [one for one in (usual, *(band or ())) if one is not None]
    heights += [end for _, one in known for end in (one.low, one.high) if math.isfinite(end)]
    low, high = (min(heights), max(heights)) if heights else (0.0, 1.0)
    air = 0.06 * (high - low) or 0.5
    low, high = low - air, high + air

    def up(value: float) -> float:
        share = (value - low) / (high - low) if math.isfinite(value) else 0.0
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def across(place: int) -> float:
        return round(_LEFT + (place + 0.5) / max(len(figures), 1) * (_WIDTH - _LEFT - _RIGHT), 1)

    points = tuple(
        Point(
            across(place),
            up(one.value),
            up(one.low) if math.isfinite(one.low) else up(one.value),
            up(one.high) if math.isfinite(one.high) else up(one.value),
            told[place],
        )
        for place, one in known
    )
    middle = (low + high) / 2
    return Chart(
        title=title,
        points=points,
        usual=up(usual) if usual is not None and math.isfinite(usual) else None,
        band=(up(band[1]), up(band[0])) if band else None,
        since=across(group.since) - (across(1) - across(0)) / 2 if alarm else None,
        ticks=tuple((up(value), f"{value:.2g}") for value in (low + air, middle, high - air)),
        ends=(day(group.ends[0].isoformat())[:10], day(group.ends[-1].isoformat())[:10]) if group.ends else ("", ""),
    )
