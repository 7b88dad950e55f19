"""Arms are joined by item, compared in pairs, and the results are written whole."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.compare import Row, compare
from mmmed.evaluation.majority import majority
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.results import adjust, primary_metrics, write_results
from mmmed.evaluation.significance import holm

REFERENCES = ["yes", "no"] * 30


def arm(name: str, answers: Sequence[str], *, options: tuple[str, ...] = ("yes", "no")) -> list[Prediction]:
    return [
        Prediction(
            arm=name,
            task="vqa",
            id=f"q{i}",
            patient=f"p{i // 2}",
            source="phantom",
            topic="effusion",
            question="Effusion?",
            reference=REFERENCES[i],
            answer=answer,
            options=dict.fromkeys(options, 0.5),
        )
        for i, answer in enumerate(answers)
    ]


def compared(arms: dict[str, list[Prediction]], *metrics: str) -> list[Row]:
    baselines = [name for name in arms if name != "image"]
    return compare(arms, main="image", baselines=baselines, task="vqa", metrics=metrics, seed=0)


def test_every_arm_has_a_row_and_the_main_arm_one_more_per_baseline() -> None:
    arms = {"image": arm("image", REFERENCES), "text": arm("text", ["yes"] * 60), "blank": arm("blank", ["no"] * 60)}
    rows = compared(arms, "balanced_accuracy", "accuracy")
    assert [(row.arm, row.metric, row.baseline) for row in rows[:5]] == [
        ("image", "balanced_accuracy", None),
        ("text", "balanced_accuracy", None),
        ("blank", "balanced_accuracy", None),
        ("image", "balanced_accuracy", "text"),
        ("image", "balanced_accuracy", "blank"),
    ]
    # Accuracy brings the reliance on the image with each control of it.
    assert len(rows) == 11
    assert {row.n for row in rows} == {60}
    against = rows[3]
    assert (against.value, against.delta) == (1.0, 0.5)
    assert against.p == pytest.approx(1 / 10001)
    assert rows[0].delta is None and rows[0].p is None


def test_the_prior_of_questions_with_options_of_their_own_is_that_of_a_place() -> None:
    items = [
        replace(one, reference=f"Right {i}", answer=f"right {i}", options=dict.fromkeys(said, 0.5))
        for i, one in enumerate(arm("image", REFERENCES))
        for said in [(f"wrong {i}", f"right {i}") if i % 4 else (f"right {i}", f"wrong {i}")]
    ]
    assert {row.prior for row in compared({"image": items}, "accuracy")} == {0.75}
    assert {row.prior for row in compared({"image": arm("image", REFERENCES)}, "accuracy")} == {0.5}


def test_arms_are_joined_by_item_and_not_by_position() -> None:
    shuffled = {"image": arm("image", REFERENCES), "text": arm("text", REFERENCES)[::-1]}
    row = compared(shuffled, "accuracy")[-1]
    assert (row.delta, row.p) == (0.0, 1.0)


def test_the_order_of_items_changes_no_figure() -> None:
    arms = {"image": arm("image", ["yes"] * 45 + ["no"] * 15), "text": arm("text", ["no"] * 60)}
    turned = {name: items[::-1] for name, items in arms.items()}
    assert compared(arms, "macro_f1") == compared(turned, "macro_f1")


def test_arms_with_different_items_are_refused() -> None:
    with pytest.raises(DataError, match=r"'image' and 'text' did not answer the same items \(1 differ, such as 'q59'"):
        compared({"image": arm("image", REFERENCES), "text": arm("text", REFERENCES)[:-1]}, "accuracy")


def test_items_that_stand_twice_or_differ_between_arms_or_belong_elsewhere_are_refused() -> None:
    good = arm("image", REFERENCES)
    with pytest.raises(DataError, match="stands twice"):
        compared({"image": [*good, good[0]]}, "accuracy")
    with pytest.raises(DataError, match="another reference or patient"):
        compared({"image": good, "text": [replace(good[0], reference="no"), *good[1:]]}, "accuracy")
    with pytest.raises(DataError, match="belongs to task 'other'"):
        compared({"image": [replace(good[0], task="other"), *good[1:]]}, "accuracy")


def test_unknown_arms_and_metrics_are_named_with_their_nearest() -> None:
    arms = {"image": arm("image", REFERENCES)}
    with pytest.raises(ConfigError, match="did you mean 'image'"):
        compare(arms, main="imag", baselines=[], task="vqa", metrics=["accuracy"], seed=0)
    with pytest.raises(ConfigError, match="also named as a baseline"):
        compare(arms, main="image", baselines=["image"], task="vqa", metrics=["accuracy"], seed=0)
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        compared(arms, "acuracy")


def test_an_answer_outside_the_options_is_unparsed_even_in_an_arm_without_options() -> None:
    free = arm("text", ["Yes.", "yes and no", *REFERENCES[2:]], options=())
    rows = compared({"image": arm("image", REFERENCES), "text": free}, "unparsed", "accuracy")
    by_metric = {row.metric: row.value for row in rows if row.arm == "text"}
    assert by_metric == {"unparsed": pytest.approx(1 / 60), "accuracy": pytest.approx(59 / 60)}


def test_open_answers_are_compared_as_texts() -> None:
    rows = compared(
        {"image": arm("image", REFERENCES, options=()), "text": arm("text", [""] * 60, options=())},
        "token_f1",
        "unparsed",
    )
    assert [row.value for row in rows] == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]


def test_no_items_and_one_patient_give_rows_without_intervals() -> None:
    (row, _, against) = compared({"image": [], "text": []}, "balanced_accuracy")
    assert row.n == 0
    assert math.isnan(row.value) and math.isnan(against.delta or 0.0) and math.isnan(against.p or 0.0)
    one = {"image": arm("image", ["yes", "no"]), "text": arm("text", ["no", "no"])}
    (row, _, against) = compared(one, "balanced_accuracy")
    assert (row.value, against.delta, against.p) == (1.0, 0.5, 1.0)
    assert math.isnan(row.low) and math.isnan(against.delta_high or 0.0)


def row(task: str, metric: str, p: float | None) -> Row:
    return Row(arm="image", task=task, metric=metric, value=0.5, low=0.4, high=0.6, n=9, baseline=p and "text", p=p)


def test_primary_metrics_of_all_tasks_are_one_family_and_others_their_own() -> None:
    rows = [
        row("closed", "balanced_accuracy", None),
        row("closed", "balanced_accuracy", 0.01),
        row("closed", "accuracy", 0.02),
        row("closed", "token_f1", 0.03),
        row("open", "token_f1", 0.02),
        row("open", "exact_match", 0.5),
    ]
    assert primary_metrics(rows) == {"closed": "balanced_accuracy", "open": "token_f1"}
    expected = holm([0.01, 0.02])
    assert [each.p for each in adjust(rows)] == [None, expected[0], 0.02, 0.03, expected[1], 0.5]


def test_results_are_plain_json_with_null_for_what_is_not_a_number(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, [replace(row("vqa", "accuracy", 0.5), low=math.nan, delta=math.inf)])
    (written,) = json.loads(path.read_text(encoding="utf-8"))
    assert " ".join(written).startswith("arm task metric value low high n baseline delta delta_low delta_high p ")
    assert written["low"] is None and written["delta"] is None and written["p"] == 0.5


def test_the_majority_arm_gives_the_training_splits_most_frequent_answer_of_the_topic() -> None:
    items = arm("image", REFERENCES[:3])
    items[1] = replace(items[1], topic="unseen")
    items[2] = replace(items[2], options={"left": 0.5, "right": 0.5})
    training = {"effusion": Counter({"No.": 3, "yes": 1}), "fracture": Counter(yes=9)}
    first, unseen, never = majority(items, training=training)
    assert (first.answer, first.confidence, first.options) == ("no", 0.75, {"yes": 0.25, "no": 0.75})
    assert unseen.answer == "yes"
    assert (never.answer, never.confidence) == ("left", 0.5)
    assert {each.arm for each in (first, unseen, never)} == {"majority"}


def test_the_majority_arm_answers_open_questions_with_the_most_frequent_text() -> None:
    items = arm("image", REFERENCES[:2], options=())
    items[1] = replace(items[1], topic="unseen")
    answers = majority(items, training={"effusion": Counter(left=2, right=1), "tube": Counter(right=5)})
    assert [each.answer for each in answers] == ["left", "right"]
    assert majority(items[:1], training={})[0].answer == ""
