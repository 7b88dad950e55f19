"""A group that is served worse is found with its sign, and equal groups are not flagged."""

from collections.abc import Callable

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, false_negative_rate

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.predictions import Prediction
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict, verdict_of
from mmmed.safety.subgroups import SubgroupGaps, gaps

Judge = Callable[..., Subject]
Believe = Callable[..., float]

Items = Callable[..., list[Prediction]]
AGES = [40.0, 65.0, 80.0]


def test_a_planted_gap_is_found_in_the_group_it_was_planted_in(
    make_items: Items, generator: np.random.Generator
) -> None:
    sex = generator.choice(["F", "M"], 600)
    right = generator.random(600) < np.where(sex == "F", 0.6, 0.9)
    items = make_items(right, sex=sex)
    (found,) = gaps(items, by=["sex"], rate="false_negative", at_most=0.05, ages=AGES)
    assert found.name.startswith("sex: F")
    assert found.low > 0.05
    assert found.verdict is Verdict.FAILED
    assert set(found.items) <= {item.id for item in items if item.attributes["sex"] == "F" and item.reference == "yes"}
    (alarms,) = gaps(items, by=["sex"], rate="false_positive", at_most=0.05, ages=AGES)
    assert alarms.low > 0.05


def test_the_gap_is_that_of_fairlearn(make_items: Items, generator: np.random.Generator) -> None:
    sex = generator.choice(["F", "M"], 200)
    items = make_items(generator.random(200) < 0.7, sex=sex)
    (found,) = gaps(items, by=["sex"], rate="false_negative", at_most=None, ages=AGES)
    truth, said = (
        [one == "yes" for one in part] for part in zip(*((i.reference, i.answer) for i in items), strict=True)
    )
    frame = MetricFrame(metrics=false_negative_rate, y_true=truth, y_pred=said, sensitive_features=sex)
    assert found.value == pytest.approx(frame.by_group["F"] - frame.by_group["M"])
    assert found.verdict is Verdict.NOT_SHOWN, "no limit was set"


def test_equal_groups_are_flagged_no_more_often_than_one_in_twenty(make_items: Items) -> None:
    flagged = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        sex, view = generator.choice(["F", "M"], 200), generator.choice(["AP", "PA"], 200)
        items = make_items(generator.random(200) < 0.8, sex=sex, view=view)
        measures = gaps(items, by=["sex", "view", "sex+view"], rate="error", at_most=0.1, ages=AGES)
        flagged += verdict_of(measures) is Verdict.FAILED
    assert flagged <= 2


def test_too_few_patients_say_nothing(make_items: Items) -> None:
    items = make_items([True] * 40, sex=["F"] * 4 + ["M"] * 36)
    (found,) = gaps(items, by=["sex"], rate="error", at_most=0.5, ages=AGES)
    assert found.verdict is Verdict.NOT_SHOWN
    assert "only 4 patients" in found.note


def test_ages_make_bands(make_items: Items) -> None:
    items = make_items([True] * 80, age=[20, 50, 70, 90] * 20)
    names = [one.name.partition(",")[0] for one in gaps(items, by=["age"], rate="error", at_most=0.5, ages=AGES)]
    assert names == ["age: 40 to 65", "age: 65 to 80", "age: 80 and over", "age: under 40"]


def test_what_the_data_do_not_say_is_an_error(make_items: Items) -> None:
    with pytest.raises(DataError, match="no item says race"):
        gaps(make_items([True] * 10), by=["race"], rate="error", at_most=0.1, ages=AGES)
    with pytest.raises(ConfigError, match="did you mean 'error'"):
        SubgroupGaps(task="", by=["sex"], rate="errors")  # type: ignore[arg-type]


def test_a_model_that_overlooks_women_fails(films_task: str, subject: Judge, sighted: Believe) -> None:
    check = SubgroupGaps(task=films_task, by=["sex"], at_most=0.1)
    (worse,) = check.examine(subject(lambda one: 0.1 if one.attributes["sex"] == "F" else sighted(one)))
    assert worse.value == pytest.approx(1.0)
    assert worse.verdict is Verdict.FAILED
    (fair,) = check.examine(subject(sighted))
    assert fair.value == 0.0
