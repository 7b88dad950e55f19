"""What a report shows, before it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image

from mmmed.evaluation.browser import Item
from mmmed.evaluation.compare import Row
from mmmed.evaluation.drawing import Curve
from mmmed.evaluation.predictions import Prediction
from mmmed.records import Quarantined


class Part(NamedTuple):
    """One part of the model and how much of it was trained."""

    name: str
    parameters: int
    trained: int


class DataCount(NamedTuple):
    """How many records of one source went into each split, and under which licence."""

    source: str
    licence: str
    records: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One item to show: what was asked about the image, what was said, and what the control said.

    Args:
        image: What the arm saw; none for items without one.
        prediction: The main arm's answer.
        control: The control's answer to the same item.
    """

    image: Image.Image | None
    prediction: Prediction
    control: Prediction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything the page shows; what is left empty is left out.

    Args:
        title: Name of the experiment.
        rows: All figures, p-values adjusted.
        main: The arm whose answers are judged.
        question: What the experiment asks, in words.
        controls: The baselines whose defeat answers the question, such as the arms without the true image; all
            baselines if empty.
        arms: What each arm is, by name.
        curves: Courses of training.
        pictures: Items with their answers.
        items: All items, to be looked at one by one.
        quarantined: Records that were set aside.
        parts: Parts of the model and their parameters.
        data: Records by source and split.
        config: The whole configuration as YAML.
        commands: Shell lines that make this result again.
        environment: Versions, by name.
    """

    title: str
    rows: Sequence[Row]
    main: str
    question: str = "Does the image matter?"
    controls: Sequence[str] = ()
    arms: Mapping[str, str] = field(default_factory=dict)
    curves: Sequence[Curve] = ()
    pictures: Sequence[Picture] = ()
    items: Sequence[Item] = ()
    quarantined: Sequence[Quarantined] = ()
    parts: Sequence[Part] = ()
    data: Sequence[DataCount] = ()
    config: str = ""
    commands: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
