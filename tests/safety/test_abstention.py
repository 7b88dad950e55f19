"""What is silent, and what leaves answers open, keeps what it promises."""

from collections.abc import Callable

import numpy as np
import pytest

from mmmed.errors import DataError
from mmmed.evaluation.predictions import Prediction
from mmmed.inference.abstaining import Abstaining
from mmmed.safety.abstention import (
    Abstention,
    Conformal,
    StatedRisk,
    answer_set,
    conformal_threshold,
    kept_at,
    risk_area,
)
from mmmed.safety.calibration import confidence_of
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict

Judge = Callable[..., Subject]
Believe = Callable[..., float]
Items = Callable[..., list[Prediction]]


def honest(make_items: Items, seed: int, *, count: int = 1000) -> list[Prediction]:
    generator = np.random.default_rng(seed)
    sure = generator.uniform(0.5, 1, count)
    return make_items(generator.random(count) < sure, confidence=sure)


def test_confidence_that_knows_lowers_the_risk(make_items: Items) -> None:
    said = confidence_of(honest(make_items, 3))
    kept = kept_at(said, 0.5)
    assert kept.mean() == pytest.approx(0.5, abs=0.01)
    assert ((1 - said.right) * kept).sum() / kept.sum() < (1 - said.right).mean() - 0.05
    assert risk_area(said) < (1 - said.right).mean()
    assert kept_at(said, 1.0).all()


def test_risk_area_by_hand(make_items: Items) -> None:
    said = confidence_of(make_items([True, False, True, True], confidence=[0.9, 0.8, 0.7, 0.6]))
    assert risk_area(said) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_answer_sets_cover_as_often_as_they_promise(make_items: Items) -> None:
    covered = []
    for seed in range(20):
        threshold = conformal_threshold(honest(make_items, seed, count=300), miss=0.1)
        items = honest(make_items, 1000 + seed, count=300)
        covered.append(np.mean([item.reference in answer_set(item.options, threshold) for item in items]))
    assert 0.88 <= np.mean(covered) <= 0.93
    assert conformal_threshold(honest(make_items, 0, count=5), miss=0.1) == 0.0, "too few to rule anything out"


def test_a_stated_risk_is_held_against_what_comes_true(films_task: str, subject: Judge, sighted: Believe) -> None:
    settings = {"risk": 0.1, "coverage": 0.5, "patients": 9, "task": "films", "identity": ""}
    silent = Abstaining(threshold=0.8, **settings)  # type: ignore[arg-type]
    judged = subject(sighted)
    judged.session.abstaining = None
    with pytest.raises(DataError, match="does not abstain"):
        StatedRisk(task=films_task).examine(judged)
    judged.session.abstaining = silent
    (kept,) = StatedRisk(task=films_task).examine(judged)
    assert (kept.value, kept.verdict) == (0.0, Verdict.PASSED)
    assert "answers 100%" in kept.note
    liar = subject(lambda one: 1 - sighted(one))
    liar.session.abstaining = silent
    (broken,) = StatedRisk(task=films_task).examine(liar)
    assert (broken.value, broken.verdict) == (1.0, Verdict.FAILED)
    unsure = subject(lambda one: 0.6)
    unsure.session.abstaining = silent
    with pytest.raises(DataError, match="abstains from all"):
        StatedRisk(task=films_task).examine(unsure)


def test_the_checks_judge_a_sighted_model(films_task: str, subject: Judge, sighted: Believe) -> None:
    always_right = subject(sighted)
    (kept,) = Abstention(task=films_task, at_most=0.1).examine(always_right)
    assert kept.verdict is Verdict.PASSED
    sets = Conformal(task=films_task, slack=0.1, by=["sex"]).examine(always_right)
    assert [one.value for one in sets] == [1.0, 1.0, 1.0]
    (liar,) = Abstention(task=films_task, at_most=0.1).examine(subject(lambda one: 1 - sighted(one)))
    assert liar.verdict is Verdict.FAILED
    assert liar.value == 1.0
