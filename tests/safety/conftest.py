"""A model of known faults, and answers of known truth."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmmed.data.sources.phantom import PhantomImage, PhantomSource
from mmmed.evaluation.predictions import Prediction
from mmmed.records import Answer, Example
from mmmed.safety.check import Subject

Believe = Callable[[Example], float]
"""From a question to the probability of yes."""


class Oracle:
    """Answers yes/no questions with whatever probability it is told to."""

    def __init__(self, believe: Believe) -> None:
        self.believe = believe
        self.asked = 0

    def choose(self, examples: Sequence[Example], *, advance: Any = None, **settings: Any) -> list[Answer]:
        self.asked += len(examples)
        answers = []
        for example in examples:
            yes = self.believe(example)
            options = {"yes": yes, "no": 1 - yes}
            answers.append(Answer(text=max(options, key=options.__getitem__), options=options))
        return answers

    def write(self, examples: Sequence[Example], **settings: Any) -> list[Answer]:
        return [Answer(text="") for _ in examples]


def sees(example: Example) -> float:
    """The probability of one who knows the film that is shown, whichever it is."""
    image = example.images[0] if example.images else None
    if not isinstance(image, PhantomImage):
        return 0.5
    return 0.9 if any(finding.kind == example.topic and finding.present for finding in image.case.findings) else 0.1


@pytest.fixture
def subject(tmp_path: Path) -> Callable[..., Subject]:
    """Makes a checkpoint under audit of a way to answer."""

    def make(believe: Believe) -> Subject:
        oracle: Any = Oracle(believe)
        return Subject(session=oracle, identity=str(id(oracle)), output=tmp_path / "answers")

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
