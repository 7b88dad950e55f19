"""Who answers: each arm turns a task's questions into predictions."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmmed.data.kept import features_of
from mmmed.errors import ConfigError
from mmmed.evaluation.predictions import Prediction
from mmmed.inference.session import Session
from mmmed.records import Answer, Example

Advance = Callable[[int], object]


def can_probe(session: Session, asked: Sequence[Example]) -> bool:
    """Whether a linear probe has features to read and options to choose from."""
    return session.model.vision is not None and all(example.options and example.images for example in asked)


def linear_probe(
    session: Session, training: Sequence[Example], asked: Sequence[Example], *, task: str, advance: Advance
) -> list[Prediction]:
    """Logistic regression per topic on the mean of the frozen encoder's features: what the features alone allow.

    Classes weigh the same, as they do in balanced accuracy, which the tasks are compared by.

    Raises:
        ConfigError: The model has no vision encoder, or a question is open or about no image.
    """
    if not can_probe(session, asked):
        raise ConfigError(f"task {task}: a linear probe needs a vision encoder and closed questions about images")
    known: dict[tuple[str, ...], NDArray[np.float32]] = {}
    predictions: dict[str, Prediction] = {}
    for topic in sorted({example.topic for example in asked}):
        learned = [example for example in training if example.topic == topic and example.images]
        questions = [example for example in asked if example.topic == topic]
        names = [example.reference for example in learned]
        features = _mean_features(session, questions, known=known)
        if len(set(names)) > 1:
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"))
            probe.fit(_mean_features(session, learned, known=known), names)
            classes, shares = list(probe.classes_), probe.predict_proba(features)
        else:
            classes, shares = sorted(set(names)) or ["unseen"], np.ones((len(questions), 1))
        for example, share in zip(questions, shares, strict=True):
            by_class = dict(zip(classes, map(float, share), strict=True))
            options = {option: by_class.get(option, 0.0) for option in example.options}
            answer = Answer(text=max(options, key=options.__getitem__), options=options)
            predictions[example.id] = prediction(example, answer, arm="linear_probe", task=task)
        advance(len(questions))
    return [predictions[example.id] for example in asked]


def prediction(example: Example, answer: Answer, *, arm: str, task: str) -> Prediction:
    """An answer together with what was asked."""
    return Prediction(
        arm=arm,
        task=task,
        id=f"{example.source}:{example.id}",
        patient=f"{example.source}:{example.patient}",
        source=example.source,
        topic=example.topic,
        question=example.question,
        reference=example.reference,
        answer=answer.text,
        options=dict(answer.options),
        confidence=answer.confidence,
        images=[image.name for image in example.images],
        attributes=dict(example.attributes),
    )


@torch.inference_mode()
def _mean_features(
    session: Session, examples: Sequence[Example], *, known: dict[tuple[str, ...], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """One row per example; `known` keeps those of images that other questions are about too."""
    assert session.model.vision is not None
    rows = []
    for example in examples:
        names = tuple(image.name for image in example.images)
        if names not in known:
            features_NPW = features_of(
                example.images, vision=session.model.vision, processor=session.processor, device=session.device
            )
            known[names] = features_NPW.mean((0, 1)).float().cpu().numpy()
        rows.append(known[names])
    return np.stack(rows)
