"""Arms answer every question in its place, and the probe finds what the features hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mmmed.errors import ConfigError
from mmmed.evaluation.arms import linear_probe, prediction
from mmmed.evaluation.controls import blank
from mmmed.evaluation.predictions import Prediction
from mmmed.inference.asking import Asking, answer
from mmmed.inference.generation import Decoding
from mmmed.records import Example

if TYPE_CHECKING:
    from mmmed.inference.session import Session


BRIEF = Asking(decoding=Decoding(max_new_tokens=3))


@dataclass(frozen=True)
class Speckled:
    """Noise around a grey value."""

    level: int
    seed: int

    @property
    def name(self) -> str:
        return f"speckled:{self.level}:{self.seed}"

    def open(self) -> Image.Image:
        noise = np.random.default_rng(self.seed).integers(-50, 50, (32, 32))
        return Image.fromarray((self.level + noise).astype(np.uint8))


@pytest.fixture
def planted(make_example: Callable[..., Example]) -> Callable[..., list[Example]]:
    """Makes films that are brighter where the answer is yes, to a topic; to another it is chance."""

    def make(count: int, *, first: int) -> list[Example]:
        made = []
        for seed in range(first, first + count):
            bright, chance = seed % 2 == 0, seed // 2 % 2 == 0
            for topic, truth in (("bright", bright), ("chance", chance)):
                one = make_example(
                    f"{seed}/{topic}", "?", "yes" if truth else "no", 1, topic=topic, options=("yes", "no")
                )
                made.append(replace(one, images=(Speckled(140 if bright else 110, seed),)))
        return made

    return make


def test_closed_and_open_questions_are_answered_in_their_places(session: Session, examples: list[Example]) -> None:
    done: list[int] = []
    said = answer(session, examples, BRIEF, advance=lambda count: done.append(count))
    answers = [prediction(example, one, arm="vlm", task="t") for example, one in zip(examples, said, strict=True)]
    assert [one.id for one in answers] == [f"phantom:{one.id}" for one in examples]
    assert sum(done) == len(examples)
    for example, one in zip(examples, answers, strict=True):
        assert one.reference == example.reference
        assert tuple(one.options) == example.options
        if example.options:
            assert one.answer in example.options
            assert one.confidence == max(one.options.values())
        else:
            assert one.confidence is None


def test_predictions_describe_what_was_asked_and_not_what_was_seen(session: Session, examples: list[Example]) -> None:
    def described(arm: str, seen: list[Example]) -> list[Prediction]:
        said = answer(session, seen, BRIEF)
        return [prediction(example, one, arm=arm, task="t") for example, one in zip(examples, said, strict=True)]

    plain, control = described("vlm", examples), described("blank", blank(examples))
    assert [one.images for one in control] == [one.images for one in plain]
    assert {one.arm for one in control} == {"blank"}
    assert control[0].options != plain[0].options, "the model saw something else"
    assert control[4].options == plain[4].options, "a question without an image stays as it is"


def test_a_linear_probe_recovers_a_planted_signal(session: Session, planted: Callable[..., list[Example]]) -> None:
    asked = planted(16, first=100)
    answers = linear_probe(session, planted(32, first=0), asked, task="t", advance=lambda count: None)
    assert [one.id for one in answers] == [f"phantom:{one.id}" for one in asked]
    right = {
        topic: [one.answer == one.reference for one in answers if one.topic == topic] for topic in ("bright", "chance")
    }
    assert np.mean(right["bright"]) == 1.0
    assert np.mean(right["chance"]) < 0.8
    assert all(sum(one.options.values()) == pytest.approx(1) for one in answers)


def test_a_linear_probe_encodes_each_film_once(
    session: Session, planted: Callable[..., list[Example]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    pixels = session.processor.pixels
    monkeypatch.setattr(
        session.processor, "pixels", lambda images: decoded.extend(one.name for one in images) or pixels(images)
    )
    linear_probe(session, planted(8, first=0), planted(4, first=100), task="t", advance=lambda count: None)
    assert len(decoded) == len(set(decoded)) == 12


@pytest.mark.parametrize("answers", [["yes"], []])
def test_a_probe_with_nothing_to_tell_apart_still_answers(
    session: Session, make_example: Callable[..., Example], answers: list[str]
) -> None:
    options = ("yes", "no")
    learned = [make_example(f"l{one}", "?", one, 1, options=options) for one in answers]
    asked = [make_example("a", "?", "no", 2, options=options)]
    (answer,) = linear_probe(session, learned, asked, task="t", advance=lambda count: None)
    assert answer.answer == "yes"


def test_a_probe_needs_closed_questions_about_images(session: Session, make_example: Callable[..., Example]) -> None:
    free = make_example("a", "?", "a mass", 1)
    text = make_example("b", "?", "yes", options=("yes", "no"))
    for asked in ([free], [text]):
        with pytest.raises(ConfigError, match="task t: a linear probe needs a vision encoder and closed questions"):
            linear_probe(session, [], asked, task="t", advance=lambda count: None)
