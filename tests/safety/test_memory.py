"""A model that learned its patients by heart is found out; one that did not is not."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from mmmed.errors import ConfigError
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict
from mmmed.safety.memory import Membership, least_likely, membership

Judge = Callable[..., Subject]
Believe = Callable[..., float]


class Reader:
    """Gives every word of an answer the likelihood that it is told to, and some noise."""

    def __init__(self, gain: float, *, ease: bool = False) -> None:
        self.gain, self.ease = gain, ease

    def likelihoods(self, examples: Sequence[Example]) -> list[Any]:
        found = []
        for one in examples:
            generator = np.random.default_rng(list(one.id.encode()))
            # How easy an answer is hides whether it was learned, unless another model knows it as well.
            ease = generator.normal(0, 5)
            found.append(-3 + ease + generator.normal(size=10) + self.gain * (one.split == "train"))
        return found


def read_by(subject: Judge, reader: Reader) -> Subject:
    judged = subject(lambda example: 0.5)
    judged.session = reader  # type: ignore[assignment]
    return judged


def test_a_memorising_model_fails(films_task: str, subject: Judge) -> None:
    def memorises(example: Example) -> float:
        right = 0.99 if example.split == "train" else 0.7
        return right if example.reference == "yes" else 1 - right

    area, found = Membership(task=films_task, at_most=0.6, found_at_most=0.1).examine(subject(memorises))
    assert area.value == found.value == 1.0
    assert {area.verdict, found.verdict} == {Verdict.FAILED}


def test_one_that_knows_all_alike_does_not(films_task: str, subject: Judge, sighted: Believe) -> None:
    area, found = Membership(task=films_task, at_most=0.6, found_at_most=0.1).examine(subject(sighted))
    assert area.value == pytest.approx(0.5)
    assert found.value == 0.0
    assert Verdict.FAILED not in (area.verdict, found.verdict)


@pytest.mark.parametrize("attack", ["loss", "min_k"])
def test_words_that_are_likelier_in_training_give_away(films_task: str, subject: Judge, attack: Any) -> None:
    check = Membership(task=films_task, attack=attack, at_most=0.6, limit=100)
    assert check.examine(read_by(subject, Reader(20.0)))[0].verdict is Verdict.FAILED
    assert check.examine(read_by(subject, Reader(0.0)))[0].verdict is not Verdict.FAILED


def test_a_reference_model_takes_away_what_is_easy(
    films_task: str, subject: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmmed.safety.memory.load", lambda checkpoint: Reader(0.0))
    settings: dict[str, Any] = {"task": films_task, "at_most": 0.6, "limit": 100}
    judged = read_by(subject, Reader(1.0))
    with_reference, _ = Membership(attack="reference", reference="base", **settings).examine(judged)
    alone, _ = Membership(attack="loss", **settings).examine(judged)
    assert with_reference.value == 1.0
    assert alone.value < 0.7
    with pytest.raises(ConfigError, match="name a checkpoint in reference"):
        Membership(attack="reference", task="")


def test_min_k_looks_at_the_least_likely_fifth() -> None:
    assert least_likely(np.arange(10.0)) == 0.5
    assert least_likely(np.array([-3.0, -1.0])) == -3.0


def test_chance_is_flagged_no_more_often_than_one_in_twenty() -> None:
    flagged = []
    for seed in range(40):
        members, others = np.random.default_rng(seed).normal(size=(2, 100))
        patients = [str(number) for number in range(200)]
        measures = membership(members, others, patients=patients, at_most=0.5, found_at_most=0.05)
        flagged.append([one.verdict is Verdict.FAILED for one in measures])
    assert np.sum(flagged, axis=0).max() <= 3
