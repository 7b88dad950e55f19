"""A judge is asked once for each pair, and what it cannot say is in no mean."""

import logging
import math
from collections.abc import Sequence

import pytest

from mmmed.errors import DataError
from mmmed.evaluation.metrics.learned.judge import JudgeMetric
from mmmed.evaluation.metrics.tally import Judged

ITEMS = [
    Judged("large effusion", "large effusion", "p1"),
    Judged("no effusion", "an effusion", "p2"),
    Judged("normal", None, "p3"),
    Judged("no effusion", "an effusion", "p4"),
]


class Equality:
    """Finds equal texts right, and is silent about some."""

    def __init__(self, silent: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self.silent = silent

    def scores(self, references: Sequence[str], answers: Sequence[str]) -> list[float]:
        pairs = list(zip(references, answers, strict=True))
        self.asked += pairs
        return [math.nan if answer == self.silent else float(reference == answer) for reference, answer in pairs]


def test_the_figure_is_the_mean_and_an_unparsed_answer_counts_as_nothing() -> None:
    metric = JudgeMetric(Equality())
    tallies = metric.tally(ITEMS, [])
    assert metric.value(tallies.sum(axis=0)) == 1 / 4
    assert metric.support(tallies) == 4


def test_a_pair_is_judged_once_for_all_arms() -> None:
    judge = Equality()
    metric = JudgeMetric(judge)
    metric.tally(ITEMS, [])
    metric.tally(ITEMS[:2], [])
    assert judge.asked == [("large effusion", "large effusion"), ("no effusion", "an effusion")]


def test_what_the_judge_cannot_say_is_in_no_mean_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    metric = JudgeMetric(Equality(silent="an effusion"))
    with caplog.at_level(logging.WARNING):
        tallies = metric.tally(ITEMS, [])
    assert "nothing readable of 1 of 2 pairs" in caplog.text
    assert metric.value(tallies.sum(axis=0)) == 1 / 2
    assert metric.support(tallies) == 2


def test_nobody_is_asked_about_an_empty_text() -> None:
    judge = Equality()
    items = [Judged("normal", " ", "p1"), Judged("", "normal", "p2"), Judged("normal", "normal", "p3")]
    assert JudgeMetric(judge).tally(items, []).tolist() == [[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]]
    assert judge.asked == [("normal", "normal")]


def test_a_judge_that_loses_pairs_is_refused() -> None:
    class Short:
        def scores(self, references: Sequence[str], answers: Sequence[str]) -> list[float]:
            return [1.0]

    with pytest.raises(DataError, match="Short: 1 scores for 2 pairs"):
        JudgeMetric(Short()).tally(ITEMS, [])
