"""Costly errors cost, on those they fall on; what has no cost is not guessed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmmed.errors import ConfigError
from mmmed.evaluation.predictions import Prediction
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.harm import Cost, ExpectedHarm, HarmMatrix, bias_impact, expected_harm, load_harm
from mmmed.safety.measure import Verdict, adjusted, verdict_of
from mmmed.safety.subgroups import compared

Judge = Callable[..., Subject]
Believe = Callable[..., float]
Items = Callable[..., list[Prediction]]
Films = Callable[..., str]

CHEST = str(Path(__file__).parents[2] / "configs" / "harm" / "chest.yaml")


def costs(missed: float = 10.0, alarm: float = 1.0) -> list[Cost]:
    return [
        Cost(truth="yes", said="no", cost=missed, because="It is urgent."),
        Cost(truth="no", said="yes", cost=alarm, because="It is looked at again."),
    ]


def matrix(**topics: list[Cost]) -> HarmMatrix:
    return HarmMatrix(name="small", version=1, unit="looks", topics=topics or {"effusion": costs()})


def test_expected_harm_is_the_mean_cost(make_items: Items) -> None:
    items = make_items([False, False, True, True] * 10)  # a false alarm, a miss, and two right answers in turn
    found = expected_harm(items, matrix(), "all", at_most=None)
    assert found.value == pytest.approx((1 + 10) / 4)
    assert found.items[:10] == tuple(one.id for one in items if one.reference == "yes" and one.answer == "no")


def test_bias_impact_is_disparity_times_harm(make_items: Items) -> None:
    sex = ["F"] * 40 + ["M"] * 40
    items = make_items([False] * 20 + [True] * 60, sex=sex)  # half of the women's questions are wrong, no man's
    ((group, inside),) = compared(items, "sex", ages=[40.0])
    found = bias_impact(items, inside, group, matrix(), at_most=1.0)
    assert found.value == pytest.approx(0.5 * (10 + 1) / 2)
    assert found.verdict is Verdict.FAILED
    assert found.p < 0.001


def test_a_group_with_more_urgent_findings_is_not_treated_unfairly_for_it(make_items: Items) -> None:
    generator = np.random.default_rng(0)
    items = []
    for place, one in enumerate(make_items(generator.random(800) < 0.8, sex=["F", "M"] * 400)):
        wanted = "yes" if generator.random() < (0.8 if one.attributes["sex"] == "F" else 0.2) else "no"
        is_right = one.answer == one.reference
        answer = wanted if is_right else {"yes": "no", "no": "yes"}[wanted]
        items.append(replace(one, id=f"phantom:{place}", reference=wanted, answer=answer))
    ((group, inside),) = compared(items, "sex", ages=[40.0])
    women = expected_harm([one for one in items if one.attributes["sex"] == "F"], matrix(), "F", at_most=None)
    men = expected_harm([one for one in items if one.attributes["sex"] == "M"], matrix(), "M", at_most=None)
    assert women.value > men.value + 0.5
    assert bias_impact(items, inside, group, matrix(), at_most=1.0).verdict is Verdict.PASSED


@pytest.mark.slow
def test_equal_groups_are_flagged_no_more_often_than_one_in_twenty(make_items: Items) -> None:
    flagged = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        sex, view = generator.choice(["F", "M"], 120), generator.choice(["AP", "PA", "LL"], 120)
        items = make_items(generator.random(120) < 0.8, sex=sex, view=view)
        measures = [
            bias_impact(items, inside, group, matrix(), at_most=0.2)
            for names in ("sex", "view")
            for group, inside in compared(items, names, ages=[40.0])
        ]
        flagged += verdict_of(adjusted(measures)) is Verdict.FAILED
    assert flagged <= 3  # of 20 families at one in twenty each, more would be seen once in sixty; of 400 others 15 were


def test_a_topic_without_a_cost_is_not_shown_and_not_guessed(make_items: Items, tmp_path: Path) -> None:
    items = make_items([True] * 40)
    half = HarmMatrix(name="half", version=1, unit="looks", topics={"effusion": costs()[:1]})
    assert {half.is_complete(one) for one in items} == {True, False}, "only misses have a cost"
    other = HarmMatrix(
        name="rest", version=1, unit="looks", topics={"effusion": [*costs()[:1], replace(costs()[1], said="other")]}
    )
    assert all(other.is_complete(one) for one in items)
    assert np.isnan(matrix(nodule=costs()).cost_of(replace(items[0], answer="maybe")))


def test_a_model_that_overlooks_women_does_them_harm(known_films_task: Films, subject: Judge, sighted: Believe) -> None:
    check = ExpectedHarm(task=known_films_task("finding"), matrix=CHEST, by=["sex"], at_most=1.0, most_impact=0.5)

    def blind_to_women(example: Example) -> float:
        return 0.1 if example.attributes["sex"] == "F" else sighted(example)

    worse = {one.name.partition(",")[0]: one for one in check.examine(subject(blind_to_women))}
    assert worse["sex: F"].value > 5
    assert worse["all"].verdict is Verdict.FAILED
    assert worse["all"].note.startswith("always 'yes'")
    impact = check.examine(subject(blind_to_women))[-1]
    assert (impact.low > 0.5, impact.verdict) == (True, Verdict.FAILED)
    assert verdict_of(check.examine(subject(sighted))) is Verdict.PASSED


def test_an_unknown_topic_stands_on_the_card(
    known_films_task: Films, subject: Judge, sighted: Believe, tmp_path: Path
) -> None:
    file = tmp_path / "harm.yaml"
    file.write_text(
        "name: few\nversion: 1\nunit: looks\ntopics:\n  effusion:\n"
        "    - {truth: 'yes', said: other, cost: 10, because: urgent}\n"
        "    - {truth: 'no', said: other, cost: 1, because: a look}\n"
    )
    measures = ExpectedHarm(task=known_films_task("finding"), matrix=str(file), at_most=5.0).examine(subject(sighted))
    assert [one.name for one in measures if one.value != one.value] == [
        f"{topic}: harm" for topic in ("cardiomegaly", "device", "nodule", "opacity", "pneumothorax")
    ]
    assert measures[-1].verdict is Verdict.PASSED
    assert verdict_of(measures) is Verdict.NOT_SHOWN


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cost": -1.0}, "expected a number from 0"),
        ({"cost": float("nan")}, "expected a number from 0"),
        ({"because": " "}, "has no reason"),
        ({"said": "yes"}, "is no error"),
    ],
)
def test_a_cost_that_is_none_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(costs()[0], **changed)


def test_two_costs_of_one_error_are_refused() -> None:
    with pytest.raises(ConfigError, match="two costs of 'no' for 'yes'"):
        matrix(effusion=[*costs(), costs()[0]])


def test_missing_an_urgent_finding_costs_far_more_than_referring_too_often() -> None:
    for topic, listed in load_harm(CHEST).topics.items():
        worst = {one.truth: one.cost for one in listed if one.said != "other"}
        finding, none = ("no", "yes") if topic == "no finding" else ("yes", "no")
        assert worst[finding] > worst[none]
