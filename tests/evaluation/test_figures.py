"""Figures with intervals over patients: exact where they are known, paired between arms."""

from dataclasses import replace

import numpy as np
import pytest

from mmmed.evaluation.compare import Row
from mmmed.evaluation.figures import CHANCE, Figure, auroc, average, mean_of, rows_of
from mmmed.evaluation.predictions import Prediction

PATIENTS = 40
ORDER = [f"patient {number:02}" for number in range(PATIENTS)]


def answers(*, skill: float, seed: int = 0) -> list[Prediction]:
    """Two questions for each patient, answered with more or less skill."""
    generator = np.random.default_rng(seed)
    items = []
    for number, patient in enumerate(ORDER * 2):
        truth = number % 2
        score = 1 / (1 + np.exp(-skill * (truth - 0.5) - generator.normal()))
        items.append(
            Prediction(
                arm="model",
                task="t",
                id=str(number),
                patient=patient,
                source="s",
                topic="effusion",
                question="?",
                reference="yes" if truth else "no",
                answer="",
                options={"yes": float(score), "no": float(1 - score)},
            )
        )
    return items


def figure(items: list[Prediction]) -> Figure:
    return auroc(items, task="t", metric="auroc", order=ORDER)


def row(rows: list[Row], arm: str, baseline: str | None) -> Row:
    (found,) = [one for one in rows if one.arm == arm and one.baseline == baseline]
    return found


def test_each_figure_is_given_alone_against_chance_and_against_the_other_arm() -> None:
    rows = rows_of(
        {"model": [figure(answers(skill=2))], "other": [figure(answers(skill=0, seed=1))]}, patients=PATIENTS
    )
    assert [(one.arm, one.baseline) for one in rows] == [
        ("model", None),
        ("model", CHANCE),
        ("model", "other"),
        ("other", None),
    ]
    ours, theirs = row(rows, "model", None), row(rows, "other", None)
    assert ours.low < ours.value < ours.high
    assert ours.n == 2 * PATIENTS
    guessed, paired = row(rows, "model", CHANCE), row(rows, "model", "other")
    assert guessed.delta == pytest.approx(ours.value - 0.5)
    assert guessed.delta_low == pytest.approx(ours.low - 0.5)
    assert paired.delta == pytest.approx(ours.value - theirs.value)
    assert guessed.delta_low is not None
    assert guessed.delta_low > 0


def test_an_arm_does_not_differ_from_itself() -> None:
    rows = rows_of({"model": [figure(answers(skill=2))], "again": [figure(answers(skill=2))]}, patients=PATIENTS)
    paired = row(rows, "model", "again")
    assert paired.delta == 0
    assert paired.delta_low is not None
    assert paired.delta_low < 0, "forty patients do not rule out every difference"


def test_the_interval_goes_by_patient_and_not_by_question() -> None:
    items = answers(skill=2)
    doubled = [replace(one, id=f"{one.id}/{copy}") for one in items for copy in range(5)]
    once, more = (rows_of({"model": [figure(each)]}, patients=PATIENTS)[0] for each in (items, doubled))
    assert (more.value, more.low, more.high) == pytest.approx((once.value, once.low, once.high))


def test_perfect_answers_keep_an_interval() -> None:
    perfect = rows_of({"model": [figure(answers(skill=100))]}, patients=PATIENTS)[0]
    assert perfect.value == 1
    assert 0.7 < perfect.low < 0.95


def test_an_average_is_taken_draw_by_draw() -> None:
    values = [np.arange(PATIENTS) / PATIENTS, np.arange(PATIENTS)[::-1] / PATIENTS]
    figures = [
        Figure("t", "m", mean_of(one, ORDER, order=ORDER), n=PATIENTS, support=PATIENTS, chance=0.5) for one in values
    ]
    mean = average(figures, task="t", metric="mean")
    weights = np.random.default_rng(0).multinomial(PATIENTS, [1 / PATIENTS] * PATIENTS, size=9).astype(float)
    np.testing.assert_allclose(mean.draws(weights), (PATIENTS - 1) / PATIENTS / 2)
    assert mean.n == 2 * PATIENTS
    np.testing.assert_allclose(figures[0].draws(np.ones((1, PATIENTS))), [values[0].mean()])
