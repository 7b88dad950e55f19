"""A model that reads a reference and an answer and says what the answer is worth, as a metric.

Legend of array names: P items (or patients, after summing).
"""

import logging
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mmmed.errors import DataError
from mmmed.evaluation.metrics.tally import FloatArray, Judged, ratio


class Judge(Protocol):
    """Says what answers are worth, pair by pair."""

    def scores(self, references: Sequence[str], answers: Sequence[str]) -> list[float]:
        """A number for each pair of texts with words, 1 for a faultless answer; not a number where none was found."""
        ...


class JudgeMetric:
    """The mean over items of what a judge says; an answer that could not be parsed is worth nothing and is not shown.

    A pair is judged once, however many arms and resamples ask for it. One with an empty text is worth nothing and not
    judged. One of which the judge says nothing readable is in no mean, and such pairs are counted in the log.

    Args:
        judge: Who says it.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._known: dict[tuple[str, str], float] = {}

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        """What each item is worth, and whether it counts.

        Raises:
            DataError: The judge gave another number of scores than it was asked for.
        """
        self._ask([(item.reference, item.answer) for item in items if item.answer is not None])
        tallies = np.zeros((len(items), 2))
        for row, item in enumerate(items):
            worth = 0.0 if item.answer is None else self._known[item.reference, item.answer]
            tallies[row] = (0.0, 0.0) if math.isnan(worth) else (worth, 1.0)
        return tallies

    def value(self, totals: FloatArray) -> FloatArray:
        """The mean."""
        return ratio(totals[..., 0], totals[..., 1])

    def support(self, tallies: FloatArray) -> int:
        """The patients with something judged."""
        return int((tallies[:, 1] > 0).sum())

    def _ask(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._known.update((pair, 0.0) for pair in pairs if not all(map(str.strip, pair)))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if not new:
            return
        found = [float(one) for one in self.judge.scores([pair[0] for pair in new], [pair[1] for pair in new])]
        judge = type(self.judge).__name__
        if len(found) != len(new):
            raise DataError(f"{judge}: {len(found)} scores for {len(new)} pairs of texts; check its weights")
        if unread := sum(map(math.isnan, found)):
            logging.getLogger(__name__).warning("%s said nothing readable of %d of %d pairs", judge, unread, len(new))
        self._known.update(zip(new, found, strict=True))
