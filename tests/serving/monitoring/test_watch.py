import math
from dataclasses import replace

import pytest

from mmmed.errors import ConfigError, DataError
from mmmed.serving.monitoring.change import changes
from mmmed.serving.monitoring.record import Study
from mmmed.serving.monitoring.signals import agreement
from mmmed.serving.monitoring.watch import watch
from tests.serving.monitoring.conftest import Make, sign


def test_nothing_is_raised_where_nothing_changes(make: Make) -> None:
    found = watch(make(120), make(90))
    assert set(found.groups) == {"embedding", "pixels", "mix", "answers", "running"}
    assert found.alarms == []
    assert all(len(group.money) == 4 for group in found.groups.values())  # ten studies wait for their batch


def test_looking_again_later_changes_nothing_of_what_was_seen(make: Make) -> None:
    reference, later = make(120), make(80)
    early, late = watch(reference, later[:45]), watch(reference, later)
    for name, group in early.groups.items():
        assert group.money == late.groups[name].money[:2]
        for one, other in zip(group.courses, late.groups[name].courses, strict=True):
            assert one.p_values == other.p_values[:2]


def test_a_change_of_pictures_is_raised_dated_and_traced_to_its_studies(make: Make) -> None:
    reference, before, after = make(120), make(100), make(80, shift=4.0)
    found = watch(reference, before + after)
    (alarm,) = found.alarms
    assert alarm.name == "embedding"
    assert alarm.since in {4, 5}  # the batch before may by chance speak for a change too
    assert 100 < (found.studies_until(alarm) or 0) <= 160
    (change,) = changes(alarm)
    assert change.now.low > 0.8
    assert set(change.behind) <= {one.study for one in after}
    assert len(change.behind) == 50


def test_a_new_scanner_and_other_findings_are_raised_each_in_its_group(make: Make) -> None:
    found = watch(make(120), make(100, scanners="C", rate=0.9))
    assert {one.name for one in found.alarms} == {"mix", "answers"}
    scanner = next(one for one in changes(found.groups["mix"]) if one.course.signal.name == "scanner")
    assert {shift.kind: shift.now.value for shift in scanner.kinds} == {"A": 0, "B": 0, "C": 1}
    effusion = next(one for one in changes(found.groups["answers"]) if one.course.signal.name == "says effusion")
    assert effusion.before.low < 0.3 < effusion.before.high
    assert effusion.now.low > 0.7
    assert effusion.behind


def test_slow_and_failing_runs_are_raised_and_faster_ones_are_not(make: Make) -> None:
    reference = make(120)
    slow = watch(reference, make(60, latency=3.0))
    assert [one.name for one in slow.alarms] == ["running"]
    assert watch(reference, make(60, latency=0.001)).alarms == []
    failing = watch(reference, make(60, error="ImageError", embedding=(), pixels={}, confidence=None, latency=None))
    assert "running" in {one.name for one in failing.alarms}
    assert math.isnan(failing.groups["embedding"].courses[0].p_values[0])


def test_readers_who_no_longer_agree_about_one_group_raise_an_alarm(make: Make) -> None:
    reference, later = make(160), make(200)
    signed = [sign(one, sex="FM"[number % 2]) for number, one in enumerate(reference)]
    signed += [sign(one, wrong=number % 2 == 0, sex="FM"[number % 2]) for number, one in enumerate(later)]
    found = watch(reference, later, signed=signed)
    assert [one.name for one in found.alarms] == ["agreement"]
    members = {one.course.signal.name: one for one in changes(found.groups["agreement"])}
    assert members["agreement, sex F"].now.value == 0
    assert members["agreement, sex M"].now.value == 1
    assert max(members["agreement, sex M"].course.money) < 1.01
    assert members["agreement, sex F"].behind[0] in {one.study for one in later[::2]}


def test_agreement_is_over_what_both_speak_of() -> None:
    time = "2026-01-01T00:00:00+00:00"
    study = Study(study="a", time=time, model="m", findings={"effusion": "stated", "nodule": "unsure"})
    signed = replace(sign(study), findings={"effusion": "stated", "nodule": "stated", "device": "stated"})
    assert agreement(study, signed) == 0.5
    assert agreement(replace(study, abstained=True), signed) is None
    assert agreement(replace(study, findings={}), signed) is None


def test_what_cannot_be_watched_is_told_in_one_line(make: Make) -> None:
    with pytest.raises(DataError, match="the reference has 99 studies; give 100 or more"):
        watch(make(99), [])
    with pytest.raises(DataError, match="the model changed from m to n at study s219"):
        watch(make(120), make(1, model="n"))
    with pytest.raises(ConfigError, match="alpha is 1"):
        watch(make(120), [], alpha=1)
    with pytest.raises(ConfigError, match="a batch of 1 "):
        watch(make(120), [], batch=1)
    assert watch(make(120), []).alarms == []
