"""A model of known faults, and answers of known truth."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from PIL import Image

from mmmed.data.sources.phantom import PhantomImage, PhantomSource
from mmmed.evaluation.predictions import Prediction
from mmmed.records import Answer, Example
from mmmed.safety.check import Subject

Believe = Callable[[Example], float | dict[str, float]]
"""From a question to the probability of yes, or of each option."""


class Oracle:
    """Answers closed questions with whatever probabilities it is told to, and writes what it is told to."""

    def __init__(self, believe: Believe, say: Callable[[Example], str]) -> None:
        self.believe = believe
        self.say = say
        self.asked = 0

    def choose(self, examples: Sequence[Example], *, advance: Any = None, **settings: Any) -> list[Answer]:
        self.asked += len(examples)
        answers = []
        for example in examples:
            believed = self.believe(example)
            options = believed if isinstance(believed, dict) else {"yes": believed, "no": 1 - believed}
            answers.append(Answer(text=max(options, key=options.__getitem__), options=options))
        return answers

    def option_likelihoods(self, examples: Sequence[Example]) -> list[Any]:
        return [np.log(np.clip([one.options["yes"], one.options["no"]], 1e-30, 1)) for one in self.choose(examples)]

    def write(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        return [Answer(text=self.say(example)) for example in examples]


def sees(example: Example) -> float:
    """The probability of one who knows the film that is shown, whichever it is."""
    image = example.images[0] if example.images else None
    if not isinstance(image, PhantomImage):
        return 0.5
    return 0.9 if any(finding.kind == example.topic and finding.present for finding in image.case.findings) else 0.1


@pytest.fixture
def subject(tmp_path: Path) -> Callable[..., Subject]:
    """Makes a checkpoint under audit of a way to answer."""

    def make(believe: Believe, say: Callable[[Example], str] = lambda example: "") -> Subject:
        oracle: Any = Oracle(believe, say)
        # Not its address, which a later one may have again, and with it the answers that are kept.
        return Subject(session=oracle, identity=uuid4().hex, output=tmp_path / "answers")

    return make


@pytest.fixture(scope="session")
def films_task(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A task file: yes/no questions about 160 films."""
    path = tmp_path_factory.mktemp("task") / "films.yaml"
    path.write_text(
        f"""
name: films
version: 1
source:
  class_path: mmmed.data.sources.phantom.PhantomSource
  init_args:
    count: 160
    cache: {path.parent}
    questions: [finding]
    fractions: {{train: 0.2, validation: 0.2, test: 0.6}}
"""
    )
    return str(path)


@pytest.fixture
def known_films_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes task files of 120 films whose pixels nobody looks at, which saves drawing them."""
    blank = Image.new("L", (256, 256), 90)
    monkeypatch.setattr("mmmed.data.sources.phantom.render", lambda case, tag: blank)

    def make(*questions: str) -> str:
        path = tmp_path / "known_films.yaml"
        path.write_text(
            f"""
name: known_films
version: 1
source:
  class_path: mmmed.data.sources.phantom.PhantomSource
  init_args:
    count: 120
    questions: [{", ".join(questions)}]
    fractions: {{train: 0.2, validation: 0.1, test: 0.7}}
"""
        )
        return str(path)

    return make


@pytest.fixture
def choices_task(tmp_path: Path) -> str:
    """A task file: 60 vignettes of adults with four options, the first of which is right."""
    lines = [
        {
            "id": f"v{number}",
            "question": f"A {30 + number}-year-old man has had a cough for {number + 2} days. He has no fever, and his "
            f"pulse is {60 + number}/min. What is the best next step?",
            "options": {"A": f"Step {number}", "B": "Wait", "C": "Operate", "D": "Send home"},
            "answer": "A",
            "meta_info": "step1",
        }
        for number in range(60)
    ]
    (tmp_path / "medqa_us_test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    path = tmp_path / "choices.yaml"
    path.write_text(
        "name: choices\nversion: 1\nsource:\n  class_path: mmmed.data.sources.medqa.MedQa\n"
        f"  init_args: {{root: {tmp_path}}}\n"
    )
    return str(path)


@pytest.fixture(scope="session")
def films() -> list[Example]:
    return [one for one in PhantomSource(40, questions=("finding",)).records() if isinstance(one, Example)]


def items_of(
    right: Sequence[bool], *, seed: int = 0, confidence: Any = None, **attributes: Sequence[Any]
) -> list[Prediction]:
    """Answers to yes/no questions, right or wrong as given, each of a patient of its own; every second one is yes."""
    generator = np.random.default_rng(seed)
    items = []
    for place, is_right in enumerate(right):
        reference = "yes" if place % 2 else "no"
        other = "no" if reference == "yes" else "yes"
        sure = float(confidence[place]) if confidence is not None else float(generator.uniform(0.5, 1))
        answer = reference if is_right else other
        items.append(
            Prediction(
                arm="vlm",
                task="films",
                id=f"phantom:{place}",
                patient=f"patient {place}",
                source="phantom",
                topic="effusion",
                question="Is there an effusion?",
                reference=reference,
                answer=answer,
                options={answer: sure, other if is_right else reference: 1 - sure},
                confidence=sure,
                attributes={name: values[place] for name, values in attributes.items()},
            )
        )
    return items


@pytest.fixture
def make_items() -> Callable[..., list[Prediction]]:
    return items_of


@pytest.fixture
def sighted() -> Believe:
    return sees


@pytest.fixture
def generator() -> np.random.Generator:
    torch.manual_seed(0)
    return np.random.default_rng(0)
