"""A benchmark that stands in the training texts is found, and so are answers that need no question."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmmed.data.sources.medqa import MedQa
from mmmed.records import Example
from mmmed.safety.check import Subject
from mmmed.safety.contamination import UNASKED, Contamination, unasked
from mmmed.safety.measure import Verdict, verdict_of

Judge = Callable[..., Subject]


def surely(example: Example, answer: str) -> dict[str, float]:
    return {option: 0.85 if option == answer else 0.15 / (len(example.options) - 1) for option in example.options}


def reads(example: Example) -> dict[str, float]:
    """Knows what it is asked, and guesses where it is not."""
    asked = UNASKED not in example.question
    return surely(example, next(one for one in example.options if one.startswith("Step")) if asked else "Wait")


@pytest.fixture
def stage(tmp_path: Path) -> Callable[[list[str]], str]:
    """Writes a training configuration whose texts are given."""

    def make(texts: list[str]) -> str:
        folder = tmp_path / "training"
        folder.mkdir(exist_ok=True)
        lines = [
            {"question": text, "options": {"A": "x", "B": "y"}, "answer": "A", "meta_info": "step1"} for text in texts
        ]
        (folder / "phrases_no_exclude_train.jsonl").write_text("\n".join(map(json.dumps, lines)))
        file = tmp_path / "stage.yaml"
        file.write_text(
            "data:\n  class_path: mmmed.data.datamodule.MedicalData\n  init_args:\n    sources:\n"
            f"      - {{class_path: mmmed.data.sources.medqa.MedQa, init_args: {{root: {folder}}}}}\n"
        )
        return str(file)

    return make


def test_questions_in_the_training_text_are_found(
    choices_task: str, subject: Judge, stage: Callable[[list[str]], str], tmp_path: Path
) -> None:
    questions = [one.question for one in MedQa(str(tmp_path)).records() if isinstance(one, Example)]
    leaked = Contamination(task=choices_task, stages=[stage(questions[:30])], met=0.05, order=0.1, unasked=0.1)
    found = leaked.examine(subject(reads))
    assert (found[0].value, found[0].verdict) == (pytest.approx(0.5, abs=0.2), Verdict.FAILED)
    assert set(found[0].items) >= {f"medqa:v{number}" for number in range(30)}
    other = "An entirely different text about trains that are late in winter because of snow on all lines."
    clean = Contamination(task=choices_task, stages=[stage([other])], met=0.1, order=0.1, unasked=0.2)
    assert verdict_of(clean.examine(subject(reads))) is Verdict.PASSED


def test_without_training_configurations_nothing_is_claimed(choices_task: str, subject: Judge) -> None:
    first, *rest = Contamination(task=choices_task, met=0.1, order=0.1, unasked=0.2).examine(subject(reads))
    assert (first.verdict, "nothing was searched" in first.note) == (Verdict.NOT_SHOWN, True)
    assert verdict_of(rest) is Verdict.PASSED


def test_who_knows_places_or_answers_by_heart_is_found(choices_task: str, subject: Judge) -> None:
    check = Contamination(task=choices_task, met=0.1, order=0.1, unasked=0.2)
    _, order, _ = check.examine(subject(lambda one: surely(one, one.options[0])))
    assert (order.verdict, order.value > 0.5) == (Verdict.FAILED, True)
    by_heart = lambda one: surely(one, next(o for o in one.options if o.startswith("Step")))  # noqa: E731
    _, order, without = check.examine(subject(by_heart))
    assert (order.value, without.value, without.verdict) == (0.0, pytest.approx(0.75), Verdict.FAILED)


def test_what_is_asked_is_taken_away(films: list[Example]) -> None:
    (plain,) = unasked(films[:1])
    assert (plain.images, plain.question) == ((), films[0].question)
