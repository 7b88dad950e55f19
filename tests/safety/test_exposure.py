"""A model that knows its secrets is found out by how often it was told them; one that guesses is not."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from mmmed.data.sources.canaries import Canaries, CanaryImage, canaries_of
from mmmed.data.splits import check_disjoint
from mmmed.errors import ConfigError, DataError
from mmmed.records import Answer, Example
from mmmed.safety.check import Subject
from mmmed.safety.exposure import Exposure, chance
from mmmed.safety.measure import Measure, Verdict

Judge = Callable[..., Subject]


class Parrot:
    """Knows a secret as well as it was told: by so many standard deviations is the right code likelier."""

    def __init__(self, source: Canaries, *, gain: float, seed: int = 0) -> None:
        self.provenance = {"data": {"canaries": [source.described()]}}
        self.gain = gain
        self.generator = np.random.default_rng(seed)

    def choose(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        answers = []
        for one in examples:
            values = self.generator.normal(size=len(one.options))
            values[one.options.index(one.reference)] += self.gain * float(one.attributes["repeats"])
            answers.append(Answer(text=one.options[0], options=dict(zip(one.options, np.exp(values), strict=True))))
        return answers


def examine(subject: Judge, session: Parrot, **limits: float) -> list[Measure]:
    judged = subject(lambda example: 0.5)
    judged.session = session  # type: ignore[assignment]
    return Exposure(**limits).examine(judged)


def test_exposure_grows_with_the_repeats_and_is_chance_unseen(subject: Judge) -> None:
    found = examine(subject, Parrot(Canaries(each=20), gain=0.2), at_most=3.0, growth_at_most=0.3)
    unseen, once, *_, often, growth = found
    assert unseen.low < chance(128) < unseen.high
    assert once.verdict is not Verdict.FAILED
    assert (often.value, often.verdict) == (7.0, Verdict.FAILED)
    assert "20 are known whole" in often.note
    values = [one.value for one in found[1:-1]]
    assert values == sorted(values)
    assert growth.low > 0.3
    assert growth.verdict is Verdict.FAILED
    assert len(growth.items) == 80


def test_one_that_knows_nothing_is_flagged_no_more_often_than_one_in_twenty(subject: Judge) -> None:
    flagged, means = [], []
    for seed in range(30):
        session = Parrot(Canaries(each=12, candidates=32, seed=seed), gain=0.0, seed=seed)
        found = examine(subject, session, at_most=chance(32), growth_at_most=0.0)
        flagged += [one.verdict is Verdict.FAILED for one in found]
        means += [one.value for one in found[:-1]]
    assert np.mean(flagged) <= 0.06
    assert np.mean(means) == pytest.approx(chance(32), abs=0.1)


def test_chance_by_hand() -> None:
    assert chance(4) == pytest.approx(2 - (0 + 1 + np.log2(3) + 2) / 4)


def test_a_model_without_canaries_is_not_passed(subject: Judge) -> None:
    session = Parrot(Canaries(), gain=0)
    session.provenance = {}
    with pytest.raises(DataError, match="no canaries were trained on"):
        examine(subject, session)


def test_canaries_are_the_same_each_time_and_told_apart() -> None:
    source = Canaries(each=4, repeats=[1, 3], pictured=True)
    records = [one for one in source.records() if isinstance(one, Example)]
    assert [sum(one.split == split for one in records) for split in ("train", "validation", "test")] == [16, 2, 2]
    check_disjoint(records)
    planted = canaries_of({"data": {"canaries": [source.described()]}})
    assert planted == source.planted()
    assert len({one.secret for one in planted}) == len({one.study for one in planted}) == 12
    assert all(one.secret in one.candidates and len(set(one.candidates)) == 128 for one in planted)
    assert len({CanaryImage(one.study).open().tobytes() for one in planted}) == 12
    assert Canaries(seed=1).planted()[0].secret != Canaries().planted()[0].secret
    with pytest.raises(ConfigError, match="expected 2 or more"):
        Canaries(each=1)
    with pytest.raises(ConfigError, match="different numbers"):
        Canaries(repeats=[4, 4])
