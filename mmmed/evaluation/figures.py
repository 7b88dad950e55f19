"""Figures that are no sums over items, such as areas under curves: with intervals, against chance and other arms.

Letters in array names: B draws, P patients, N items.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mmmed.data.question import YES_NO
from mmmed.evaluation.compare import Row
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.ranking import weighted_auroc
from mmmed.evaluation.significance import detectable
from mmmed.evaluation.statistics import FloatArray, interval_of, patient_weights

CHANCE = "chance"
# Areas under curves sort all items anew in each draw, so that fewer draws are made than of sums.
DRAWS = 2000
_EVEN = 0.5

Draws = Callable[[FloatArray], FloatArray]
"""From weights of the patients (B, P) to the figure in each draw (B,)."""


class Figure(NamedTuple):
    """One figure of one arm.

    Args:
        task: On what.
        metric: Which figure.
        draws: Makes it from patient weights.
        n: Items it was made from.
        support: Patients it rests on.
        chance: What guessing gives.
    """

    task: str
    metric: str
    draws: Draws
    n: int
    support: int
    chance: float


def auroc(predictions: Sequence[Prediction], *, task: str, metric: str, order: Sequence[str]) -> Figure:
    """The area under the ROC curve of yes/no questions by the probability of yes."""
    scores_N = np.array([one.options[YES_NO[0]] for one in predictions])
    positive_N = np.array([one.reference == YES_NO[0] for one in predictions])
    patients = [one.patient for one in predictions]
    sides = [{patient for patient, yes in zip(patients, positive_N, strict=True) if yes == side} for side in (0, 1)]
    return Figure(
        task=task,
        metric=metric,
        draws=lambda weights_BP: weighted_auroc(scores_N, positive_N, _item_weights(weights_BP, patients, order=order)),
        n=len(predictions),
        support=min(map(len, sides)),
        chance=_EVEN,
    )


def average(figures: Sequence[Figure], *, task: str, metric: str) -> Figure:
    """The mean of figures in [0, 1] that guessing gets the same of, each with the same weight."""
    return Figure(
        task=task,
        metric=metric,
        draws=lambda weights_BP: np.mean([one.draws(weights_BP) for one in figures], axis=0),
        n=sum(one.n for one in figures),
        support=min(one.support for one in figures),
        chance=figures[0].chance,
    )


def mean_of(values_N: FloatArray, patients: Sequence[str], *, order: Sequence[str]) -> Draws:
    """The mean of a value that each item has."""

    def draws(weights_BP: FloatArray) -> FloatArray:
        weights_BN = _item_weights(weights_BP, patients, order=order)
        with np.errstate(invalid="ignore"):
            means: FloatArray = weights_BN @ values_N / weights_BN.sum(1)
        return means

    return draws


def rows_of(figures_by_arm: Mapping[str, Sequence[Figure]], *, patients: int, seed: int = 0) -> list[Row]:
    """Each arm's figures with intervals over patients, and the first arm's against chance and against the other arms.

    The arms have the same figures in the same order, of the same items.
    """
    weights_BP = patient_weights(patients, draws=DRAWS, seed=seed).astype(np.float64)
    once_BP = np.ones((1, patients))
    main, *others = figures_by_arm
    rows: list[Row] = []
    for arm, figures in figures_by_arm.items():
        for number, one in enumerate(figures):
            value, drawn = float(one.draws(once_BP)[0]), one.draws(weights_BP)
            estimate = interval_of(value, drawn, patients=patients, support=one.support, bounds=(0.0, 1.0))
            alone = Row(
                arm=arm,
                task=one.task,
                metric=one.metric,
                value=estimate.value,
                low=estimate.low,
                high=estimate.high,
                n=one.n,
                prior=one.chance,
            )
            rows.append(alone)
            if arm != main:
                continue
            rows.append(_against(alone, CHANCE, one.chance, drawn - one.chance, one, patients))
            for other in others:
                theirs = figures_by_arm[other][number]
                baseline = float(theirs.draws(once_BP)[0])
                rows.append(_against(alone, other, baseline, drawn - theirs.draws(weights_BP), one, patients))
    return rows


def _against(alone: Row, baseline: str, value: float, differences_B: FloatArray, figure: Figure, patients: int) -> Row:
    estimate = interval_of(
        alone.value - value, differences_B, patients=patients, support=figure.support, bounds=(-1.0, 1.0)
    )
    return replace(
        alone,
        baseline=baseline,
        delta=estimate.value,
        delta_low=estimate.low,
        delta_high=estimate.high,
        detectable=detectable(estimate, patients=patients),
    )


def _item_weights(weights_BP: FloatArray, patients: Sequence[str], *, order: Sequence[str]) -> FloatArray:
    """The weight of each item in each draw (B, N): that of its patient."""
    index = {patient: number for number, patient in enumerate(order)}
    return weights_BP[:, [index[patient] for patient in patients]].astype(np.float64)
