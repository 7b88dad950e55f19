"""Whether a benchmark measures memory: its texts in the training data, and answers that need no question.

Source: Brown et al. 2020, Language Models are Few-Shot Learners, appendix C (stretches of 13 words); Oren et al. 2024,
ICLR (a memorised benchmark is known in its published order).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mmmed.data.leakage.texts import STRETCH, BenchmarkIndex
from mmmed.errors import DataError
from mmmed.evaluation.contamination import listed_sources, met_in, training_sources
from mmmed.evaluation.controls import absent, option_shuffle
from mmmed.evaluation.metrics.tally import ratio
from mmmed.evaluation.predictions import Prediction
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.counterfactual import worded
from mmmed.safety.measure import Measure, estimate, mean_estimate
from mmmed.safety.subgroups import FEWEST

UNASKED = "Which of these is the right answer?"


@dataclass(kw_only=True)
class Contamination:
    """Measures what of a benchmark stands in the training texts, and what is right without being asked.

    Args:
        task: Task file of closed questions.
        stages: Training configurations that made the checkpoint, whose texts are searched; without them that is not
            shown.
        met: Greatest share of questions of which a stretch of 13 words may stand in a training text.
        order: Greatest loss of accuracy that is allowed when the options stand in another order.
        unasked: Greatest accuracy beyond the most frequent answer without the question's text or image.
        limit: Most questions; they are the first of the task.
    """

    task: str
    stages: list[str] = field(default_factory=list)
    met: float | None = None
    order: float | None = None
    unasked: float | None = None
    limit: int = 200

    @property
    def title(self) -> str:
        """What is asked."""
        return "Does the benchmark measure what was memorised?"

    def examine(self, subject: Subject) -> list[Measure]:
        """Stretches in training texts, the loss by reordering options, and accuracy without the question.

        Raises:
            DataError: No question has options.
            ConfigError: A training configuration lists no sources.
        """
        task = subject.task(self.task)
        asked = [one for one in task.examples() if one.options][: self.limit]
        if not asked:
            raise DataError(f"task {task.name}: no closed question; choose a task whose questions have options")
        own = subject.answers(task, asked)
        shuffled = subject.answers(task, asked, seen=option_shuffle(asked), name="options reordered")
        without = subject.answers(task, asked, seen=unasked(asked), name="not asked")
        met, long_enough = self._met(asked)
        return [
            *overlap(own, met, long_enough, most=self.met, searched=bool(self.stages)),
            lost_by_order(own, shuffled, most=self.order),
            known_unasked(without, most=self.unasked),
        ]

    def _met(self, asked: Sequence[Example]) -> tuple[set[str], set[str]]:
        """Identifiers of the questions that were met, and of those that are long enough to be."""
        listed = [one for stage in self.stages for one in listed_sources(Path(stage))]
        named = [replace(one, id=f"{one.source}:{one.id}") for one in asked]
        found = met_in(training_sources(listed), {"asked": named}) if listed else []
        return {one.second for one in found}, {one.id for one in named if len(BenchmarkIndex([one]))}


def unasked(examples: Sequence[Example]) -> list[Example]:
    """The questions without what is asked about: without the image, or where there is none without their text."""
    return [absent([one])[0] if one.images else worded(one, UNASKED) for one in examples]


def overlap(
    own: Sequence[Prediction], met: set[str], long_enough: set[str], *, most: float | None, searched: bool
) -> list[Measure]:
    """The share of questions with a stretch in a training text, and how much better those are answered."""
    counted = [one for one in own if one.id in long_enough]
    share = mean_estimate(np.array([float(one.id in met) for one in counted]), [one.patient for one in counted])
    note = f"{len(own) - len(counted)} of {len(own)} questions are shorter than {STRETCH} words and cannot be found"
    measures = [
        Measure.of(
            share if searched else share._replace(value=math.nan, low=math.nan, high=math.nan),
            name=f"questions of which {STRETCH} words in a row stand in a training text",
            n=len(counted),
            expected=0.0,
            most=most,
            items=(one.id for one in counted if one.id in met),
            note=note if searched else "the suite names no training configuration, so nothing was searched",
        )
    ]
    fewest = min(len({one.patient for one in counted if (one.id in met) == side}) for side in (True, False))
    return [*measures, _gain(counted, met, most=most)] if fewest >= FEWEST else measures


def _gain(items: Sequence[Prediction], met: set[str], *, most: float | None) -> Measure:
    tallies = [[one.answer == one.reference, 1.0, 0, 0] for one in items]
    sides = [row if one.id in met else [0, 0, *row[:2]] for one, row in zip(items, tallies, strict=True)]
    found = estimate(
        np.array(sides, dtype=np.float64),
        [one.patient for one in items],
        value_of=lambda totals: ratio(totals[..., 0], totals[..., 1]) - ratio(totals[..., 2], totals[..., 3]),
        bounds=(-1.0, 1.0),
    )
    return Measure.of(found, name="accuracy on those beyond that on the rest", n=len(items), expected=0.0, most=most)


def lost_by_order(own: Sequence[Prediction], shuffled: Sequence[Prediction], *, most: float | None) -> Measure:
    """Accuracy with the options as published minus that with them in another order."""
    lost = np.array(
        [
            float(one.answer == one.reference) - float(two.answer == two.reference)
            for one, two in zip(own, shuffled, strict=True)
        ]
    )
    return Measure.of(
        mean_estimate(lost, [one.patient for one in own], bounds=(-1.0, 1.0)),
        name="accuracy lost when the options stand in another order",
        n=len(own),
        expected=0.0,
        most=most,
        items=(one.id for one, gone in zip(own, lost, strict=True) if gone > 0),
        note=f"accuracy as published {np.mean([one.answer == one.reference for one in own]):.3f}",
    )


def known_unasked(without: Sequence[Prediction], *, most: float | None) -> Measure:
    """Accuracy without what is asked about, minus what the most frequent answer, or guessing, would have."""
    right = np.array([float(one.answer == one.reference) for one in without])
    same = {tuple(sorted(one.options)) for one in without}
    references = [one.reference for one in without]
    floor = (
        max(references.count(option) for option in set(references)) / len(references)
        if len(same) == 1
        else float(np.mean([1 / len(one.options) for one in without]))
    )
    found = mean_estimate(right, [one.patient for one in without])
    return Measure.of(
        found._replace(value=found.value - floor, low=found.low - floor, high=found.high - floor),
        name="accuracy without being asked, beyond guessing",
        n=len(without),
        expected=0.0,
        most=most,
        items=(one.id for one, is_right in zip(without, right, strict=True) if is_right),
        note=f"{found.value:.3f} are right where the question, or its image, is taken away; guessing has {floor:.3f}",
    )
