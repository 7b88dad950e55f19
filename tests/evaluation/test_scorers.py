"""Scorers keep unparsed apart from wrong, and metrics equal their reference implementations."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from mmmed.errors import ConfigError
from mmmed.evaluation.metrics.catalogue import measure
from mmmed.evaluation.metrics.tally import Judged
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.scorers import (
    ChoiceScorer,
    ExactMatchScorer,
    TokenF1Scorer,
    normalise,
    parse_choice,
    token_f1,
)


def prediction(answer: str, reference: str, *options: str) -> Prediction:
    return Prediction(
        arm="image",
        task="vqa",
        id="q",
        patient="p",
        source="phantom",
        topic="t",
        question="?",
        reference=reference,
        answer=answer,
        options=dict.fromkeys(options, 1 / max(len(options), 1)),
    )


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Left-sided EFFUSION.", "left sided effusion"),
        ("an apple a day", "apple day"),
        ("3.5 cm", "3.5 cm"),
        ("A", "a"),
        ("+", "+"),
        (" \uff39\uff25\uff33 ", "yes"),
        ("", ""),
    ],
)
def test_answers_are_normalised_and_never_to_nothing(text: str, normal: str) -> None:
    assert normalise(text) == normal


def test_a_decimal_point_is_not_lost() -> None:
    assert normalise("3.5") != normalise("35")


@pytest.mark.parametrize(
    ("answer", "value"), [("yes", 1.0), ("Yes.", 1.0), ("no", 0.0), ("yes no", None), ("", None), ("maybe", None)]
)
def test_a_choice_is_right_wrong_or_unparsed(answer: str, value: float | None) -> None:
    score = ChoiceScorer().score(prediction(answer, "yes", "yes", "no"))
    assert score.value == value
    assert score.explanation


def test_a_choice_among_option_letters_keeps_the_letter_a() -> None:
    assert parse_choice("a.", ["A", "B"]) == "A"


def test_an_answer_that_fits_two_options_is_unparsed_unless_it_is_one_literally() -> None:
    assert parse_choice("LEFT", ["left", "the left"]) is None
    assert parse_choice("the left", ["left", "the left"]) == "the left"


def test_a_choice_without_options_is_unparsed() -> None:
    assert ChoiceScorer().score(prediction("yes", "yes")).value is None


@pytest.mark.parametrize(("answer", "value"), [("Pleural effusion.", 1.0), ("effusion", 0.0), (" ", None)])
def test_exact_match_is_strict_after_normalising(answer: str, value: float | None) -> None:
    assert ExactMatchScorer().score(prediction(answer, "the pleural effusion")).value == value


def test_token_f1_counts_each_word_as_often_as_it_occurs() -> None:
    assert token_f1("left left lung", "left lung base") == pytest.approx(2 * 2 / 6)
    assert token_f1("heart", "lung") == 0.0
    assert TokenF1Scorer().score(prediction("left lung", "left lung")).value == 1.0
    assert TokenF1Scorer().score(prediction("", "left lung")).value is None


def test_class_metrics_equal_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    references = generator.choice(["yes", "no", "maybe"], size=200, p=[0.5, 0.4, 0.1])
    answers = np.where(generator.random(200) < 0.6, references, generator.choice(["yes", "no", "maybe"], size=200))
    items = [Judged(str(r), str(a), "p") for r, a in zip(references, answers, strict=True)]
    assert measure("accuracy", items) == pytest.approx(accuracy_score(references, answers))
    assert measure("balanced_accuracy", items) == pytest.approx(balanced_accuracy_score(references, answers))
    assert measure("macro_f1", items) == pytest.approx(f1_score(references, answers, average="macro"))


def test_unparsed_answers_are_not_correct_and_have_their_own_rate() -> None:
    items = [Judged("yes", "yes", "1"), Judged("yes", None, "2"), Judged("no", "no", "3"), Judged("no", "yes", "4")]
    assert measure("accuracy", items) == 0.5
    assert measure("unparsed", items) == 0.25
    assert measure("balanced_accuracy", items) == 0.5
    references, answers = ["yes", "yes", "no", "no"], ["yes", "unparsed", "no", "yes"]
    expected = f1_score(references, answers, labels=["no", "yes"], average="macro")
    assert measure("macro_f1", items) == pytest.approx(expected)


def test_balanced_accuracy_is_over_the_classes_of_the_references_only() -> None:
    items = [Judged("yes", "yes", "1"), Judged("yes", "maybe", "2"), Judged("no", "no", "3")]
    assert measure("balanced_accuracy", items) == pytest.approx((0.5 + 1.0) / 2)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "macro_f1", "token_f1", "exact_match", "unparsed"])
def test_no_items_have_no_figure(name: str) -> None:
    assert math.isnan(measure(name, []))


def test_an_unknown_metric_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'balanced_accuracy'"):
        measure("balanced_acuracy", [])
