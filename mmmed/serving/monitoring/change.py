"""What a change looks like: figures before and since, batch by batch, and the studies that speak most for it."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint

from mmmed.evaluation.statistics import LEVEL, Estimate
from mmmed.safety.measure import auroc_estimate
from mmmed.serving.monitoring.comparison import domain
from mmmed.serving.monitoring.signals import Signal
from mmmed.serving.monitoring.watch import Course, Group

MOST_BEHIND = 50
NOTHING = Estimate(math.nan, math.nan, math.nan, math.nan)


class Shift(NamedTuple):
    """One kind among several: its share in the reference and now."""

    kind: str
    before: Estimate
    now: Estimate


class Change(NamedTuple):
    """How one thing that is watched stands.

    Args:
        course: Its evidence.
        n_reference: Studies of the reference that have it.
        n_now: Later studies that have it, since the change where there is an alarm.
        missing: Later studies that have not.
        before: Its mean in the reference, with a 95 % interval; of kinds and vectors none.
        now: Its mean in those; of vectors the area under the ROC curve of a classifier that tells
            them from those of the reference, cross-fitted.
        figures: Its mean in each batch.
        kinds: Of kinds, each.
        behind: Codes of the studies that speak most for a change, those first.
    """

    course: Course
    n_reference: int
    n_now: int
    missing: int
    before: Estimate
    now: Estimate
    figures: tuple[Estimate, ...]
    kinds: tuple[Shift, ...]
    behind: tuple[str, ...]


def changes(group: Group) -> list[Change]:
    """How each member of a group stands: since the change where there is an alarm, else over all later studies."""
    start = group.reference if group.raised is None else group.cut[group.since].start
    return [_change(course, group, start=start) for course in group.courses]


def _change(course: Course, group: Group, *, start: int) -> Change:
    signal, known = course.signal, course.signal.known
    since = np.flatnonzero(known & (np.arange(len(known)) >= start))
    usual = np.flatnonzero(known[: group.reference])
    now, order = _now(signal, usual, since)
    return Change(
        course=course,
        n_reference=len(usual),
        n_now=len(since),
        missing=int((~known[group.reference :]).sum()),
        before=_estimate(signal, usual),
        now=now,
        figures=tuple(_estimate(signal, each.start + np.flatnonzero(known[each])) for each in group.cut),
        kinds=_shifts(signal, usual, since),
        behind=tuple(group.codes[place] for place in order[:MOST_BEHIND]),
    )


def _now(signal: Signal, usual: np.ndarray, since: np.ndarray) -> tuple[Estimate, list[int]]:
    """How the studies since a change stand, and which of them are least like those of the reference."""
    if not len(since) or not len(usual):
        return NOTHING, []
    before, after = signal.values[usual], signal.values[since]
    if signal.shape == "vectors":
        scores = domain(before, after, np.random.default_rng(0), draws=1).scores_N
        strange = np.repeat([False, True], [len(usual), len(since)])
        found = auroc_estimate(scores, strange, [str(number) for number in range(len(scores))])
        return found, list(since[np.argsort(-scores[len(usual) :], kind="stable")])
    if signal.shape == "kinds":
        shares = [np.bincount(part.astype(int), minlength=len(signal.kinds)) / len(part) for part in (before, after)]
        excess = (shares[1] - shares[0])[after.astype(int)]
        return NOTHING, list(since[np.argsort(-excess, kind="stable")][: int((excess > 0).sum())])
    direction = 1.0 if after.mean() >= before.mean() else -1.0
    order = np.argsort(-direction * after, kind="stable")
    if signal.shape == "rate":
        order = order[: int((after == (direction > 0)).sum())]
    return _estimate(signal, since), list(since[order])


def _shifts(signal: Signal, usual: np.ndarray, since: np.ndarray) -> tuple[Shift, ...]:
    if not len(since) or not len(usual):
        return ()
    values = signal.values
    return tuple(
        Shift(kind, share((values[usual] == number).astype(float)), share((values[since] == number).astype(float)))
        for number, kind in enumerate(signal.kinds)
    )


def _estimate(signal: Signal, places: np.ndarray) -> Estimate:
    if signal.shape in {"kinds", "vectors"} or not len(places):
        return NOTHING
    values = signal.values[places]
    return share(values) if signal.shape == "rate" else mean(values)


def share(values: np.ndarray) -> Estimate:
    """A share of ones with Wilson's interval.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209-212.
    """
    value = float(values.mean())
    low, high = proportion_confint(values.sum(), len(values), alpha=1 - LEVEL, method="wilson")
    return Estimate(value, float(low), float(high), math.sqrt(value * (1 - value) / len(values)))


def mean(values: np.ndarray) -> Estimate:
    """A mean with Student's interval; not a number of a single value."""
    value = float(values.mean())
    if len(values) < 2:
        return Estimate(value, math.nan, math.nan, math.nan)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(student.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Estimate(value, value - reach, value + reach, error)
