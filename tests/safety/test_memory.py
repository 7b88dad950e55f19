"""A model that learned its patients by heart is found out; one that did not is not."""

from collections.abc import Callable

import numpy as np
import pytest

from mmmed.evaluation.predictions import Prediction
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict
from mmmed.safety.memory import Membership, membership

Judge = Callable[..., Subject]
Believe = Callable[..., float]


def test_a_memorising_model_fails(films_task: str, subject: Judge) -> None:
    def memorises(example: Example) -> float:
        right = 0.99 if example.split == "train" else 0.7
        return right if example.reference == "yes" else 1 - right

    (found,) = Membership(task=films_task, at_most=0.6).examine(subject(memorises))
    assert found.value == 1.0
    assert found.verdict is Verdict.FAILED
    assert found.note.startswith("1.0000 of the training questions")


def test_one_that_knows_all_alike_does_not(films_task: str, subject: Judge, sighted: Believe) -> None:
    (found,) = Membership(task=films_task, at_most=0.6).examine(subject(sighted))
    assert found.value == pytest.approx(0.5)
    assert found.verdict is not Verdict.FAILED


def test_chance_is_flagged_no_more_often_than_one_in_twenty(make_items: Callable[..., list[Prediction]]) -> None:
    flagged = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        sure = generator.uniform(0.5, 1, 200)
        items = make_items(generator.random(200) < sure, confidence=sure)
        flagged += membership(items[:100], items[100:], at_most=0.5).verdict is Verdict.FAILED
    assert flagged <= 3
