"""Whether a model makes the errors again that people have corrected."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmmed.data.entries import plain
from mmmed.errors import DataError
from mmmed.evaluation.metrics.overlap import words
from mmmed.evaluation.metrics.tally import FloatArray, ratio
from mmmed.evaluation.statistics import (
    Estimate,
    bootstrap_estimate,
    paired_estimate,
    patient_weights,
    sum_by_patient,
)
from mmmed.records import Example


@dataclass(frozen=True, slots=True)
class Repeats:
    """How many corrected errors come back.

    Args:
        questions: How many were asked.
        patients: Of how many patients.
        rate: Share of answers that are nearer to the rejected text than to the signed one.
        before: The same of the model before it learned.
        difference: The rate minus the one before, on the same questions.
    """

    questions: int
    patients: int
    rate: Estimate
    before: Estimate | None = None
    difference: Estimate | None = None


def is_repeat(answer: str, *, chosen: str, rejected: str) -> bool:
    """Whether an answer is the corrected error again: the same words, or more of them than of the signed text."""
    if plain(answer) in (plain(chosen), plain(rejected)):
        return plain(answer) == plain(rejected)
    return _alike(answer, rejected) > _alike(answer, chosen)


def repeats(
    examples: Sequence[Example], answers: Sequence[str], before: Sequence[str] | None = None, *, seed: int = 0
) -> Repeats:
    """Count, with intervals over patients.

    Args:
        examples: Pairs: the reference and, rejected, what a model once said.
        answers: What the model says now.
        before: What it said before it learned.
        seed: Of the resampling.

    Raises:
        DataError: There is nothing to count, or answers are missing.
    """
    if not examples:
        raise DataError("there is no pair to ask about; export more amendments, or ask the other split")
    given = [one for one in (answers, before) if one is not None]
    if any(len(one) != len(examples) for one in given):
        raise DataError(f"{len(examples)} questions have {[len(one) for one in given]} answers")
    patients = [example.patient for example in examples]
    order = sorted(set(patients))
    weights = patient_weights(len(order), seed=seed)
    tallies = [sum_by_patient(_tally(examples, one), patients, order=order) for one in given]
    rates = [bootstrap_estimate(one, value_of=_rate, weights=weights, support=len(order)) for one in tallies]
    if len(tallies) == 1:
        return Repeats(len(examples), len(order), rates[0])
    difference = paired_estimate(tallies[0], tallies[1], value_of=_rate, weights=weights, support=len(order))
    return Repeats(len(examples), len(order), rates[0], rates[1], difference)


def _tally(examples: Sequence[Example], answers: Sequence[str]) -> FloatArray:
    again = [
        is_repeat(answer, chosen=example.reference, rejected=example.turns[-1].rejected)
        for example, answer in zip(examples, answers, strict=True)
    ]
    return np.array([[float(one), 1.0] for one in again])


def _rate(totals: FloatArray) -> FloatArray:
    return ratio(totals[..., 0], totals[..., 1])


def _alike(first: str, second: str) -> float:
    """F1 of the words of two texts."""
    one, other = Counter(words(first)), Counter(words(second))
    shared = sum((one & other).values())
    return 2 * shared / (one.total() + other.total()) if shared else 0.0
