"""From a study and its answer to the line of the log: what those who serve a model need to write one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import torch

from mmmed.data.kept import features_of
from mmmed.data.question import YES_NO
from mmmed.inference.session import Session
from mmmed.processing.findings.answered import findings_answered
from mmmed.records import Example, LazyImage
from mmmed.serving.monitoring.embedding import sketch
from mmmed.serving.monitoring.pixels import pixel_statistics
from mmmed.serving.monitoring.record import Said, Study


class Look(NamedTuple):
    """What a log keeps of a study's pictures: of the encoder's features, and of the pixels of the newest."""

    embedding: tuple[float, ...]
    pixels: Mapping[str, float]


@torch.inference_mode()
def look(session: Session, images: Sequence[LazyImage]) -> Look:
    """Look at pictures as the model does; to be called where the model computes.

    Raises:
        ImageError: A picture cannot be decoded.
    """
    if not images:
        return Look((), {})
    pixels = pixel_statistics(images[-1].open())
    vision = session.model.vision
    if vision is None:
        return Look((), pixels)
    features_NPW = features_of(images, vision=vision, processor=session.processor, device=session.device)
    return Look(sketch(features_NPW.mean((0, 1)).float().cpu().numpy()), pixels)


_WORDS: tuple[Said, ...] = ("unmentioned", "denied", "unsure", "stated")


def findings_said(example: Example, text: str, question: str = "") -> dict[str, Said]:
    """What an answer says of findings: of the one a closed question is about, or of those the question names.

    Args:
        example: What was asked.
        text: What was answered.
        question: In the visitor's words; without them a question is held to ask about everything.
    """
    if set(example.options) == set(YES_NO) and (example.topic or not question):
        if not example.topic or text not in YES_NO:
            return {}
        return {example.topic: "stated" if text == YES_NO[0] else "denied"}
    if example.options and set(example.options) != set(YES_NO):
        return {}
    return findings_written(question, text)


def findings_written(question: str, text: str) -> dict[str, Said]:
    """What a text says of the findings that its question names; of all that a report may name where it names none."""
    return {name: _WORDS[status] for name, status in findings_answered(question, text).items()}


def study_of(
    code: str,
    example: Example,
    text: str,
    *,
    question: str = "",
    seen: Look,
    model: str,
    confidence: float | None = None,
    abstained: bool = False,
    unparsed: bool = False,
    latency: float | None = None,
    view: str = "",
    scanner: str = "",
) -> Study:
    """The line of a study that was answered.

    Args:
        code: Pseudonym of the study.
        example: What was asked.
        text: What was answered; only its length and findings are kept.
        question: In the visitor's words, where a person has asked; it says which findings the answer is about.
        seen: From `look`.
        model: Which model answered.
        confidence: Of the answer.
        abstained: Whether the model, or the policy around it, declined.
        unparsed: Whether the answer was none of the options.
        latency: Seconds from the question to the whole answer.
        view: Projection.
        scanner: Maker and model of the machine.
    """
    return Study(
        study=code,
        time=now(),
        model=model,
        embedding=seen.embedding,
        pixels=seen.pixels,
        view=view,
        scanner=scanner,
        findings={} if abstained or unparsed else findings_said(example, text, question),
        words=len(text.split()),
        confidence=confidence,
        abstained=abstained,
        unparsed=unparsed,
        latency=latency,
    )


def failed(code: str, error: BaseException, *, model: str, latency: float | None = None) -> Study:
    """The line of a study that could not be answered; of the error only its class is kept."""
    return Study(study=code, time=now(), model=model, latency=latency, error=type(error).__name__)


def now() -> str:
    """The moment, in universal time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
