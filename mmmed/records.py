"""The shared words of the project: what a record, a turn, a question and an answer are.

Frozen, free of tensors, importable in milliseconds. Everything else speaks in these terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from mmmed.errors import RecordError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_PLACEHOLDER = "<image>"

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Speaker = Literal["system", "user", "assistant", "document"]


@runtime_checkable
class LazyImage(Protocol):
    """An image that is decoded only when asked for; `name` identifies its content within a run."""

    @property
    def name(self) -> str: ...

    def open(self) -> Image.Image:
        """Decode to 8-bit grey ("L") or colour ("RGB"). Raises `ImageError`."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """Who speaks and what; each `<image>` in the text stands for the example's next image.

    Args:
        speaker: Who; a `document` is nobody's, a text to model the language of, and stands alone in its example.
        text: What.
        blanks: The parts of an assistant's form that are to be filled in, in order. Where there are any, they
            alone are learned and the form around them is given; where there are none, the whole turn is.
        rejected: Of a last assistant turn, the answer that was held to be worse; preferences are learned from both.
    """

    speaker: Speaker
    text: str
    blanks: tuple[str, ...] = ()
    rejected: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One question-and-answer (or conversation) about zero or more images of one patient.

    Args:
        id: Unique within the source.
        patient: Patient (or lesion) identifier; splits and intervals go by it.
        turns: The conversation; the last assistant turn is the reference answer.
        images: In the order of the `<image>` placeholders.
        options: The closed set of answers, empty for free text.
        topic: What is asked about, such as ``"effusion"`` or ``"report"``.
        split: Where the record belongs.
        source: Name of the data set.
        study: Study identifier, where the source has one.
        attributes: Known facts of the patient or image, such as ``{"sex": "F", "age": 61}``.
        licence: Licence of this record, where it differs from the data set's.

    Raises:
        RecordError: The placeholders in the turns are not as many as the images, or the reference of a
            closed question is not among its options.
    """

    id: str
    patient: str
    turns: tuple[Turn, ...]
    images: tuple[LazyImage, ...] = ()
    options: tuple[str, ...] = ()
    topic: str = ""
    split: Split = "train"
    source: str = ""
    study: str = ""
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    licence: str = ""

    def __post_init__(self) -> None:
        placeholders = sum(turn.text.count(IMAGE_PLACEHOLDER) for turn in self.turns)
        if placeholders != len(self.images):
            raise RecordError(
                f"{self.source}:{self.id}: {placeholders} {IMAGE_PLACEHOLDER} placeholders for "
                f"{len(self.images)} images; write one placeholder per image"
            )
        if self.options and self.reference not in self.options:
            raise RecordError(
                f"{self.source}:{self.id}: the answer {self.reference!r} is none of the options {self.options}"
            )

    @property
    def reference(self) -> str:
        """The answer held to be right: the last assistant turn, or nothing."""
        return next((turn.text for turn in reversed(self.turns) if turn.speaker == "assistant"), "")

    @property
    def question(self) -> str:
        """The last user turn without its image placeholders."""
        text = next((turn.text for turn in reversed(self.turns) if turn.speaker == "user"), "")
        return text.replace(IMAGE_PLACEHOLDER, "").strip()


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record that was set aside, and why; counted and reported, never silently dropped."""

    source: str
    record: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said to one example.

    Args:
        text: The chosen option or the generated text.
        options: Probability of each option (sums to 1, or to less where some samples named none), empty for free text.
        abstains: Whether the model is less sure than it has to be for the answer to be shown (`mmmed abstain`).
    """

    text: str
    options: Mapping[str, float] = field(default_factory=dict)
    abstains: bool = False

    @property
    def confidence(self) -> float | None:
        """Probability of the chosen option; none for free text."""
        return self.options.get(self.text)
