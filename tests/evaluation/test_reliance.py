"""A model that ignores the image relies on it by 0, and one that needs it by 1, through the comparison itself."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.compare import RELIANCE, Row, compare, compare_runs
from mmmed.evaluation.controls import CONTROLS
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.results import read_results, write_results
from mmmed.records import Example, LazyImage, Turn

YES_NO = ("yes", "no")


class Film:
    """A film whose grey value is its truth."""

    def __init__(self, number: int, *, shows: bool) -> None:
        self.name = f"film{number}"
        self.shows = shows

    def open(self) -> Image.Image:
        return Image.new("L", (4, 4), 250 if self.shows else 5)


def films(count: int = 80) -> list[Example]:
    """Two questions about each film; half of the patients have the finding."""
    examples = []
    for number in range(count):
        image: LazyImage = Film(number, shows=number % 2 == 0)
        for question in range(2):
            answer = YES_NO[(number + question) % 2]
            turns = (Turn("user", "<image>\n" + ("Effusion?", "Clear?")[question]), Turn("assistant", answer))
            examples.append(
                Example(id=f"{number}.{question}", patient=f"p{number}", turns=turns, images=(image,), options=YES_NO)
            )
    return examples


def blind(example: Example) -> str:
    """Answers by the question alone."""
    return "yes" if example.question == "Effusion?" else "no"


def oracle(example: Example) -> str:
    """Answers by the grey value, and says nothing where there is none to go by."""
    grey = float(np.asarray(example.images[0].open()).mean()) if example.images else 128.0
    if 100 < grey < 150:
        return ""
    return YES_NO[int((grey > 128) != (example.question == "Effusion?"))]


def answered(model: Callable[[Example], str], arm: str, seen: Sequence[Example]) -> list[Prediction]:
    return [
        Prediction(
            arm=arm,
            task="t",
            id=asked.id,
            patient=asked.patient,
            source="s",
            topic="",
            question=asked.question,
            reference=asked.reference,
            answer=model(given),
            options=dict.fromkeys(YES_NO, 0.5),
        )
        for asked, given in zip(films(), seen, strict=True)
    ]


def rows_of(model: Callable[[Example], str]) -> list[Row]:
    arms = {"vlm": answered(model, "vlm", films())}
    arms |= {name: answered(model, name, control(films())) for name, control in CONTROLS.items()}
    return compare(arms, main="vlm", baselines=list(CONTROLS), task="t", metrics=["accuracy"], seed=0)


def test_a_model_that_ignores_the_image_relies_on_it_by_0_under_every_control() -> None:
    reliance = [row for row in rows_of(blind) if row.metric == RELIANCE]
    assert [row.baseline for row in reliance] == list(CONTROLS)
    for row in reliance:
        assert row.value == 0.0
        assert row.low < 0.0 < row.high


@pytest.mark.parametrize("control", ["blank", "noise", "absent"])
def test_an_oracle_that_needs_the_image_relies_on_it_by_1(control: str) -> None:
    (row,) = [row for row in rows_of(oracle) if row.metric == RELIANCE and row.baseline == control]
    assert row.value == 1.0
    assert 0.9 < row.low <= row.high == 1.0


def test_another_patients_image_takes_from_the_oracle_what_it_knew() -> None:
    rows = rows_of(oracle)
    (row,) = [row for row in rows if row.metric == RELIANCE and row.baseline == "shuffled"]
    assert row.value == 1.0
    (against,) = [row for row in rows if row.metric == "accuracy" and row.baseline == "shuffled"]
    assert against.delta is not None and against.delta > 0.3 and against.p is not None and against.p < 0.001


def test_every_row_carries_its_items_floors_unparsed_answers_and_what_could_be_seen() -> None:
    rows = rows_of(oracle)
    for row in rows:
        assert row.n == 160
        assert row.unparsed == {"blank": 160, "noise": 160, "absent": 160}.get(row.arm, 0)
        if row.metric == "accuracy":
            assert row.prior == 0.5
            assert row.question_only == 0.0
            assert row.baseline is None or (row.detectable is not None and math.isfinite(row.detectable))
    assert all(row.mcnemar is None for row in rows), "two questions about each patient are not independent"


def test_runs_with_other_seeds_are_averaged_and_their_spread_stands_beside_the_interval() -> None:
    def guess(seed: int) -> Callable[[Example], str]:
        generator = np.random.default_rng(seed)
        return lambda example: example.reference if generator.random() < 0.8 else "no"

    runs = [
        {"vlm": answered(guess(seed), "vlm", films()), "text_only": answered(blind, "text_only", films())}
        for seed in range(3)
    ]
    settings = {"main": "vlm", "baselines": ["text_only"], "task": "t", "metrics": ["accuracy"], "seed": 0}
    each = [compare(run, **settings)[0].value for run in runs]  # type: ignore[arg-type]
    turned = {arm: answers[::-1] for arm, answers in runs[1].items()}
    pooled = compare_runs([runs[0], turned, runs[2]], **settings)  # type: ignore[arg-type]
    alone, against = pooled[0], pooled[2]
    assert alone.value == pytest.approx(np.mean(each))
    assert alone.spread == pytest.approx(np.std(each, ddof=1))
    assert (alone.runs, pooled[1].spread) == (3, 0.0)
    assert against.delta == pytest.approx(np.mean(each) - 0.5)
    assert against.p is not None and against.p < 0.001


def test_runs_with_other_arms_or_items_are_refused() -> None:
    run = {"vlm": answered(blind, "vlm", films()), "text_only": answered(blind, "text_only", films())}
    settings = {"main": "vlm", "baselines": ["text_only"], "task": "t", "metrics": ["accuracy"], "seed": 0}
    with pytest.raises(ConfigError, match="the 2 runs of task 't' have other arms"):
        compare_runs([run, run | {"more": run["vlm"]}], **settings)  # type: ignore[arg-type]
    fewer = {arm: answers[:-1] for arm, answers in run.items()}
    with pytest.raises(DataError, match=r"1 items, such as '79\.1', were asked in some runs only"):
        compare_runs([run, fewer], **settings)  # type: ignore[arg-type]


def test_the_claim_of_being_no_worse_is_tested_against_its_margin() -> None:
    arms = {"vlm": answered(oracle, "vlm", films()), "text_only": answered(blind, "text_only", films())}
    rows = compare(
        arms,
        main="vlm",
        baselines=["text_only"],
        task="t",
        metrics=["accuracy"],
        seed=0,
        no_worse={"text_only": 0.05},
    )
    assert (rows[-1].margin, rows[0].margin) == (0.05, None)
    assert rows[-1].p_no_worse is not None and rows[-1].p_no_worse < 0.001


def test_one_item_a_patient_is_also_compared_by_mcnemar() -> None:
    single = {
        arm: [item for item in answered(model, arm, films()) if item.id.endswith(".0")]
        for arm, model in (("vlm", oracle), ("text_only", blind))
    }
    rows = compare(single, main="vlm", baselines=["text_only"], task="t", metrics=["accuracy"], seed=0)
    assert rows[-1].mcnemar == pytest.approx(2 * 0.5**40)


def test_results_are_read_back_and_older_ones_without_the_newer_fields_too(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    rows = rows_of(blind)
    write_results(path, rows)
    assert read_results(path) == rows
    path.write_text('[{"arm":"a","task":"t","metric":"accuracy","value":null,"low":0.1,"high":0.2,"n":3}]')
    (old,) = read_results(path)
    assert math.isnan(old.value) and (old.unparsed, old.detectable, old.runs) == (None, None, 1)
    path.write_text('[{"arm":"a"}]')
    with pytest.raises(DataError, match="expected an array of rows"):
        read_results(path)
