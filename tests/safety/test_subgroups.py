"""A group that is served worse is found with its sign, and equal groups are not flagged."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, false_negative_rate

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.predictions import Prediction
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict, verdict_of
from mmmed.safety.subgroups import Rate, SubgroupGaps, by_film, gaps

Judge = Callable[..., Subject]
Believe = Callable[..., float]

Items = Callable[..., list[Prediction]]
Films = Callable[..., str]
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
    for seed in range(20):
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


def test_a_model_that_overlooks_women_fails(known_films_task: Films, subject: Judge, sighted: Believe) -> None:
    check = SubgroupGaps(task=known_films_task("finding"), by=["sex"], at_most=0.1)
    (worse,) = check.examine(subject(lambda one: 0.1 if one.attributes["sex"] == "F" else sighted(one)))
    assert worse.value == pytest.approx(1.0)
    assert worse.verdict is Verdict.FAILED
    (fair,) = check.examine(subject(sighted))
    assert fair.value == 0.0


def test_one_gap_among_many_groups_is_no_finding_unless_it_stands_after_holm(make_items: Items) -> None:
    generator = np.random.default_rng(1)
    site = generator.integers(0, 12, 360).astype(str)
    right = generator.random(360) < np.where(site == "3", 0.1, 0.9)
    found = {
        one.name.partition(",")[0]: one
        for one in gaps(make_items(right, site=site), by=["site"], rate="error", at_most=0.1, ages=AGES)
    }
    assert (found["site: 3"].p < 0.05, found["site: 3"].verdict) == (True, Verdict.FAILED)
    assert all(one.p > 0.05 for name, one in found.items() if name != "site: 3")


def test_underdiagnosis_counts_films_that_are_called_normal(make_items: Items) -> None:
    base = make_items([True] * 160, sex=["F", "F", "M", "M"] * 40)
    items = [
        replace(
            one,
            patient=f"p{place // 2}",
            images=[f"film {place // 2}"],
            topic=("effusion", "no finding")[place % 2],
            reference=("yes", "no")[place % 2],
            answer=("no", "yes")[place % 2] if one.attributes["sex"] == "F" else ("yes", "no")[place % 2],
        )
        for place, one in enumerate(base)
    ]
    assert len(by_film(items)) == 80
    (found,) = gaps(items, by=["sex"], rate="underdiagnosis", at_most=0.1, ages=AGES)
    assert (found.value, found.n, found.verdict) == (1.0, 40, Verdict.FAILED)
    seen = [replace(one, answer="yes") if one.topic == "effusion" else one for one in items]
    (fair,) = gaps(seen, by=["sex"], rate="underdiagnosis", at_most=0.1, ages=AGES)
    assert fair.value == 0.0


def scored(seed: int, *, blur: float = 0.0, stretch: float = 1.0) -> list[Prediction]:
    """Honest probabilities of 300 questions; women's are blurred, or stretched away from one half."""
    generator = np.random.default_rng(seed)
    items = []
    for place in range(300):
        sex = str(generator.choice(["F", "M"]))
        logit = generator.normal(0, 2)
        reference = "yes" if generator.random() < 1 / (1 + np.exp(-logit)) else "no"
        said = logit + generator.normal(0, blur) if sex == "F" else logit
        yes = float(1 / (1 + np.exp(-said * (stretch if sex == "F" else 1.0))))
        options = {"yes": yes, "no": 1 - yes}
        answer = max(options, key=options.__getitem__)
        items.append(
            Prediction(
                arm="vlm",
                task="films",
                id=str(place),
                patient=str(place),
                source="phantom",
                topic="effusion",
                question="",
                reference=reference,
                answer=answer,
                options=options,
                confidence=options[answer],
                attributes={"sex": sex},
            )
        )
    return items


def test_worse_ranking_and_worse_calibration_of_a_group_are_found_with_their_sign() -> None:
    (area,) = gaps(scored(0, blur=8.0), by=["sex"], rate="auroc", at_most=0.05, ages=AGES)
    assert (area.high < -0.05, area.verdict) == (True, Verdict.FAILED)
    (error,) = gaps(scored(0, stretch=8.0), by=["sex"], rate="calibration", at_most=0.05, ages=AGES)
    assert (error.low > 0.05, error.verdict) == (True, Verdict.FAILED)


@pytest.mark.parametrize("rate", ["auroc", "calibration"])
def test_groups_that_are_ranked_and_calibrated_alike_are_not_flagged(rate: Rate) -> None:
    found = [gaps(scored(seed), by=["sex"], rate=rate, at_most=0.02, ages=AGES)[0] for seed in range(12)]
    assert sum(one.verdict is Verdict.FAILED for one in found) <= 2
    assert sum(one.p < 0.05 for one in found) <= 3
    assert abs(float(np.mean([one.value for one in found]))) < 0.02


def test_areas_need_probabilities(make_items: Items) -> None:
    items = [replace(one, options={}) for one in make_items([True] * 40, sex=["F", "M"] * 20)]
    with pytest.raises(DataError, match="answered yes or no"):
        gaps(items, by=["sex"], rate="auroc", at_most=0.1, ages=AGES)
