"""What goes wrong in other harnesses must not go wrong here, and what must hold of every score."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mmmed.evaluation.answers import ask
from mmmed.evaluation.controls import option_shuffle
from mmmed.evaluation.experiment import compare_all
from mmmed.evaluation.experiment_file import MAIN, MAJORITY
from mmmed.evaluation.metrics.catalogue import METRICS, measure
from mmmed.evaluation.metrics.tally import Judged
from mmmed.evaluation.results import primary_metrics
from mmmed.evaluation.scorers import parse_choice
from mmmed.evaluation.task import Task
from mmmed.records import Answer, Example, Turn

YES_NO = ("yes", "no")
LONG = [
    "small left pleural effusion is seen",
    "the heart is mildly enlarged today",
    "right lower lobe consolidation is present",
    "clear lungs without any acute disease",
    "stable bibasilar atelectasis of both lungs",
]
# Rates are no scores: a perfect model may say yes seldom and leaves nothing unparsed.
RATES = {"unparsed", "yes_rate"}
SCORES = sorted(set(METRICS) - RATES)
OF_ONE_FINDING = {name for name in SCORES if name.startswith("finding_f1_")}


def closed(said: Sequence[str], references: Sequence[str]) -> list[Judged]:
    return [
        Judged(reference, parse_choice(answer, YES_NO), f"p{i}", answer, YES_NO)
        for i, (answer, reference) in enumerate(zip(said, references, strict=True))
    ]


def texts(said: Sequence[str], references: Sequence[str]) -> list[Judged]:
    return [
        Judged(reference, answer.strip() or None, f"p{i}", answer)
        for i, (answer, reference) in enumerate(zip(said, references, strict=True))
    ]


@pytest.mark.parametrize("name", SCORES)
def test_every_score_lies_between_0_and_1_whatever_is_answered(name: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        said, references = generator.choice([*LONG, "", "yes", "no nodule", "a", "effusion"], (2, 8))
        references = np.where(references == "", "no", references)
        value = measure(name, texts(list(map(str, said)), list(map(str, references))))
        assert math.isnan(value) or 0 <= value <= 1


@pytest.mark.parametrize("name", sorted(set(SCORES) - OF_ONE_FINDING))
def test_perfect_answers_score_exactly_1_and_never_more(name: str) -> None:
    # MedEvalKit counts closed hits of SLAKE twice, so that all right is 1.5.
    assert measure(name, texts(LONG, LONG)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_the_order_of_items_changes_nothing(name: str) -> None:
    items = texts([LONG[1], LONG[1], "no effusion", LONG[3], ""], LONG)
    shuffled = [items[place] for place in (3, 0, 4, 2, 1)]
    assert measure(name, shuffled) == pytest.approx(measure(name, items), abs=1e-12, nan_ok=True)


def test_the_constant_yes_no_answerer_scores_100_under_llava_med_and_at_most_the_majority_when_strict() -> None:
    references = ["yes"] * 6 + ["no"] * 4
    items = closed(["yes no"] * 10, references)
    assert measure("llava_med", items) == 1.0
    assert measure("strict", items) <= 0.6
    assert measure("unparsed", items) == 1.0


def test_the_yes_rate_is_of_the_answers_and_not_of_the_references() -> None:
    # lmms-eval's POPE counts the ground truth.
    assert measure("yes_rate", closed(["yes"] * 4, ["no"] * 4)) == 1.0
    assert measure("yes_rate", closed(["no", "no", "yes", "perhaps"], ["yes"] * 4)) == 0.25


def test_an_answer_that_cannot_be_parsed_is_never_guessed() -> None:
    # Two harnesses draw an option at random instead.
    garbled = closed(["certainly", "yes or no", "", "y"] * 50, ["yes", "no", "yes", "no"] * 50)
    assert {item.answer for item in garbled} == {None}
    assert measure("accuracy", garbled) == 0.0
    assert measure("unparsed", garbled) == 1.0


@pytest.mark.parametrize("n", [3, 7, 250])
def test_a_mean_is_divided_by_the_number_of_items(n: int) -> None:
    # Med-HALT divides by 100 whatever n.
    items = closed(["yes"] * n, ["yes"] * (n - 1) + ["no"])
    assert measure("accuracy", items) == pytest.approx((n - 1) / n)


def test_what_cannot_be_measured_is_not_a_number_and_never_0() -> None:
    # KARMA reports a bias of 0.0 where metadata are missing.
    assert all(math.isnan(measure(name, [])) for name in METRICS)


def test_the_order_of_shuffled_options_does_not_depend_on_the_answer() -> None:
    # MultiMedEval's prompt draws its negative answers from the gold answer.
    options = ("edema", "effusion", "mass", "nodule")

    def question(answer: str) -> Example:
        return Example(id="q", patient="p", turns=(Turn("user", "?"), Turn("assistant", answer)), options=options)

    orders = {option_shuffle([question(answer)])[0].options for answer in options}
    assert len(orders) == 1
    (order,) = orders
    assert sorted(order) == sorted(options) and order != options


class Constant:
    """Answers everything with the same words, as nothing that knows anything would."""

    def __init__(self, words: str) -> None:
        self.words = words

    def choose(self, examples: Sequence[Example], **how: object) -> list[Answer]:
        raise AssertionError("a protocol judges words, so that answers are written")

    def write(self, examples: Sequence[Example], **how: object) -> list[Answer]:
        return [Answer(text=self.words) for _ in examples]


def figure(make_task: Callable[..., Task], folder: Path, words: str, protocol: str) -> float:
    """What a constant answerer scores under a protocol, asked as `mmmed evaluate` asks."""
    references = ["yes"] * 6 + ["no"] * 4
    examples = [
        Example(
            id=f"q{number}",
            patient=f"p{number}",
            turns=(Turn("user", f"Is it so, {number}?"), Turn("assistant", reference)),
            options=YES_NO,
            topic="t",
            split="test",
            source="phantom",
        )
        for number, reference in enumerate(references)
    ]
    task = make_task(examples, protocol=protocol)
    found = ask(task, {MAIN: Constant(words)}, identities={MAIN: words}, baselines=[MAJORITY], output=folder)
    rows = compare_all([{task.name: found.by_arm}], {task.name: task})
    assert primary_metrics(rows) == {task.name: protocol}
    return next(row.value for row in rows if row.arm == MAIN and row.metric == protocol and row.baseline is None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("yes no", {"strict": 0.0, "llava_med": 1.0, "multimedeval": 1.0, "lmms": 0.0}),
        ("Yes, there is.", {"strict": 0.6, "llava_med": 0.6, "multimedeval": 0.6, "lmms": 0.0}),
        ("Yes.", {"strict": 0.6, "llava_med": 0.6, "multimedeval": 0.6, "lmms": 0.6}),
        ("I do not know", {"strict": 0.0, "llava_med": 0.4, "multimedeval": 0.0, "lmms": 0.0}),
    ],
)
def test_a_constant_answerer_gets_from_each_protocol_what_its_rule_gives_away(
    words: str, expected: dict[str, float], make_task: Callable[..., Task], tmp_path: Path
) -> None:
    found = {protocol: figure(make_task, tmp_path / protocol, words, protocol) for protocol in expected}
    assert found == pytest.approx(expected)
    assert found["strict"] <= 0.6, "the strict rule never gives more than the majority"
