"""Hold studies against those of a reference, batch by batch, and say whether and since when something has changed.

A batch is held against everything that came before it, the reference and the earlier batches (see `evidence`).
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np

from mmmed.errors import ConfigError, DataError
from mmmed.serving.monitoring import evidence
from mmmed.serving.monitoring.record import Signed, Study
from mmmed.serving.monitoring.signals import GROUPS, Signal, signals_of_agreement, signals_of_studies

ALPHA = 0.05
BATCH = 20
FEWEST = 100
"""Studies a reference must have: with fewer, a batch has too little to be held against."""


class Course(NamedTuple):
    """How one thing that is watched went.

    Args:
        signal: What.
        p_values: Of each batch among all before; not a number where the batch has no value.
        money: Evidence after each batch.
    """

    signal: Signal
    p_values: tuple[float, ...]
    money: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What a group of things says together.

    Args:
        name: Of `GROUPS`.
        courses: Its members.
        codes: Of the studies that values belong to, those of the reference first.
        reference: How many of them are the reference's.
        cut: Which studies each batch has.
        ends: When each batch was complete.
        money: Evidence after each batch: the mean of its members'.
        since: Batch (from 0) since which the evidence speaks most.
        p: Holds at all times and over all groups at once.
        raised: Batch (from 0) at whose end the alarm was raised; none without an alarm.
    """

    name: str
    courses: tuple[Course, ...]
    codes: tuple[str, ...]
    reference: int
    cut: tuple[slice, ...]
    ends: tuple[datetime, ...]
    money: tuple[float, ...]
    since: int
    p: float = 1.0
    raised: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What there is to say of a log.

    Args:
        alpha: Chance of any alarm ever, in any group, while nothing changes.
        batch: Studies a batch.
        reference: Studies that the others are held against.
        monitored: Those others.
        groups: By name; those with nothing to watch are missing.
    """

    alpha: float
    batch: int
    reference: tuple[Study, ...]
    monitored: tuple[Study, ...]
    groups: Mapping[str, Group] = field(default_factory=dict)

    @property
    def alarms(self) -> list[Group]:
        """Groups that stand in alarm, the first raised first."""
        standing = [one for one in self.groups.values() if one.raised is not None]
        return sorted(standing, key=lambda one: one.ends[one.raised or 0])

    def studies_until(self, group: Group) -> int | None:
        """How many studies had been monitored when a group's alarm was raised."""
        if group.raised is None:
            return None
        if group.name != "agreement":
            return min((group.raised + 1) * self.batch, len(self.monitored))
        end = group.ends[group.raised]
        return sum(datetime.fromisoformat(one.time) <= end for one in self.monitored)


def watch(
    reference: Sequence[Study],
    monitored: Sequence[Study],
    *,
    signed: Sequence[Signed] = (),
    alpha: float = ALPHA,
    batch: int = BATCH,
) -> Watched:
    """Hold studies, in the order they came, against a reference.

    Batches that are not complete wait for the next look. The same log gives the same p-values at every look, so that
    looking more often changes nothing.

    Raises:
        ConfigError: Alpha or the batch is out of range.
        DataError: The reference is too small, or another model answered since.
    """
    _check(reference, monitored, alpha=alpha, batch=batch)
    studies = [*reference, *monitored]
    times = [datetime.fromisoformat(one.time) for one in monitored]
    signals = signals_of_studies(studies, reference=len(reference))
    cut = [slice(start, start + batch) for start in range(len(reference), len(studies) - batch + 1, batch)]
    ends = [times[each.stop - 1 - len(reference)] for each in cut]
    parts = [_Part(signals, tuple(cut), tuple(ends), tuple(one.study for one in studies), len(reference))]
    parts += _agreement(reference, monitored, signed, batch=batch)
    groups: dict[str, Group] = {}
    for part in parts:
        for name in GROUPS:
            members = [one for one in part.signals if one.group == name]
            if members:
                groups[name] = _group(name, members, part)
    raised = _raised(groups, alpha=alpha)
    p_values = evidence.adjusted({name: _richest(group.money) for name, group in groups.items()})
    return Watched(
        alpha=alpha,
        batch=batch,
        reference=tuple(reference),
        monitored=tuple(monitored),
        groups={name: replace(group, p=p_values[name], raised=raised[name]) for name, group in groups.items()},
    )


class _Part(NamedTuple):
    """Signals that have their values of the same studies, in the same order."""

    signals: list[Signal]
    cut: tuple[slice, ...]
    ends: tuple[datetime, ...]
    codes: tuple[str, ...]
    reference: int


def _check(reference: Sequence[Study], monitored: Sequence[Study], *, alpha: float, batch: int) -> None:
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha is {alpha}; give a chance between 0 and 1, such as {ALPHA}")
    if batch < 5:
        raise ConfigError(f"a batch of {batch} studies tells too little; give 5 or more, such as {BATCH}")
    if len(reference) < max(FEWEST, 2 * batch):
        raise DataError(
            f"the reference has {len(reference)} studies; give {max(FEWEST, 2 * batch)} or more, of a time when all "
            "was well"
        )
    if len(models := list(dict.fromkeys(one.model for one in [*reference, *monitored]))) > 1:
        first = next(one for one in [*reference, *monitored] if one.model == models[1])
        raise DataError(
            f"the model changed from {models[0]} to {models[1]} at study {first.study} ({first.time}); "
            "give a reference of the model that answers now"
        )


def _agreement(
    reference: Sequence[Study], monitored: Sequence[Study], signed: Sequence[Signed], *, batch: int
) -> list[_Part]:
    """What signed reports tell, in the order of signing; nothing without enough of them."""
    before, after = ({one.study: one for one in part} for part in (reference, monitored))
    last = {one.study: one for one in signed}
    pairs = [(before[code], one) for code, one in last.items() if code in before]
    first = len(pairs)
    pairs += [(after[code], one) for code, one in last.items() if code in after]
    signals = signals_of_agreement(pairs, reference=first)
    if not signals:
        return []
    cut = [slice(start, start + batch) for start in range(first, len(pairs) - batch + 1, batch)]
    ends = [datetime.fromisoformat(pairs[each.stop - 1][1].time) for each in cut]
    return [_Part(signals, tuple(cut), tuple(ends), tuple(study.study for study, _ in pairs), first)]


def _group(name: str, signals: Sequence[Signal], part: _Part) -> Group:
    p_values = [tuple(_p_value(one, each, number) for number, each in enumerate(part.cut)) for one in signals]
    money = [evidence.money(each) for each in p_values]
    total = np.mean(money, axis=0)
    return Group(
        name=name,
        courses=tuple(
            Course(signal, p, tuple(map(float, own))) for signal, p, own in zip(signals, p_values, money, strict=True)
        ),
        codes=part.codes,
        reference=part.reference,
        cut=part.cut,
        ends=part.ends,
        money=tuple(map(float, total)),
        since=evidence.change(p_values, until=int(np.argmax(total))) if part.cut else 0,
    )


def _p_value(signal: Signal, batch: slice, number: int) -> float:
    """That of one batch; its chance decisions depend on nothing but the signal's name and the batch's number."""
    known = signal.known
    earlier, own = signal.values[: batch.start][known[: batch.start]], signal.values[batch][known[batch]]
    if not len(own) or not len(earlier):
        return math.nan
    name = int.from_bytes(hashlib.sha256(signal.name.encode()).digest()[:8])
    return signal.test(earlier, own, np.random.default_rng((name, number)))


def _raised(groups: Mapping[str, Group], *, alpha: float) -> dict[str, int | None]:
    """The batch at whose end each group's alarm was raised, as it would have been seen by one who always looked."""
    moments = sorted({end for group in groups.values() for end in group.ends})
    found: dict[str, int | None] = dict.fromkeys(groups)
    for moment in moments:
        done = {name: sum(end <= moment for end in group.ends) for name, group in groups.items()}
        now = evidence.adjusted({name: _richest(group.money[: done[name]]) for name, group in groups.items()})
        for name, p in now.items():
            if found[name] is None and p <= alpha:
                found[name] = done[name] - 1
    return found


def _richest(money: Sequence[float]) -> float:
    return max(money, default=1.0)
