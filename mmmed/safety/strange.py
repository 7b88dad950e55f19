"""Images that a model was not made for: does it notice, and what do worse pictures do to it?

Legend of array names: N images, P tokens, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from mmmed.data.kept import features_of
from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.answers import questions_of
from mmmed.evaluation.arms import prediction
from mmmed.evaluation.experiment_file import MAIN
from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.ranking import weighted_false_alarms, weighted_precision_area
from mmmed.evaluation.statistics import Estimate
from mmmed.evaluation.task import Task
from mmmed.inference.session import Session
from mmmed.records import Answer, Example, LazyImage
from mmmed.safety.altered import CORRUPTIONS, STRANGE, Changed, check_names
from mmmed.safety.check import Shown, Subject, spread
from mmmed.safety.measure import Measure, auroc_estimate, mean_estimate, ranking_estimate

FEATURES_AT_ONCE = 16


@dataclass(kw_only=True)
class OutOfDistribution:
    """Measures how well the encoder's features, and how well the answers, tell strange images from those of the task.

    The limit is about the distance of the features from usual ones. Beside it stand how far confidence tells strange
    images apart, which is one minus the probability of the chosen option, and how far energy does, which is how
    unlikely any of the options is to be said at all.

    Args:
        task: Task file of closed questions about images; its training split says what is usual.
        kinds: Strange images: `inverted`, `rotated`, `cropped`, `noisy`, `blank`, `photograph`, and drawings of an
            `ultrasound` and a `limb`.
        others: Task files whose images are strange, by a word for what they are, such as `{other modality: ...}`.
        at_least: Least area under the ROC curve of the features.
        usual: Most training images.
        images: Most images of the task.

    Source: Lee et al. 2018, NeurIPS, A Simple Unified Framework for Detecting Out-of-Distribution Samples (Mahalanobis
    distance; here of one class, with the covariance of Ledoit & Wolf 2004); Hendrycks & Gimpel 2017, ICLR (confidence);
    Liu et al. 2020, NeurIPS, section 3.1 (energy, here over the options alone).
    """

    task: str
    kinds: list[str] = field(default_factory=lambda: list(STRANGE))
    others: dict[str, str] = field(default_factory=dict)
    at_least: float | None = None
    usual: int = 300
    images: int = 60

    def __post_init__(self) -> None:
        check_names(self.kinds, STRANGE)

    @property
    def title(self) -> str:
        """What is asked."""
        return "Would a strange image be noticed?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The area under the curve for each kind of strange image."""
        task = subject.task(self.task)
        training, asked = _one_an_image(task.training())[: self.usual], _one_an_image(task.examples())[: self.images]
        detector = Distance(mean_features(subject.session, [one.images[0] for one in training]))
        own = strangeness(subject, task, detector, asked)
        measures = []
        for kind in self.kinds:
            seen = [replace(one, images=(Changed(one.images[0], kind), *one.images[1:])) for one in asked]
            other = strangeness(subject, task, detector, seen)
            found = told_apart(own, other, _patients(asked), _patients(asked), kind, at_least=self.at_least)
            measures.append(self._shown(subject, task, found, seen, other))
        for name, path in self.others.items():
            images = [one.images[0] for one in _one_an_image(subject.task(path).examples())[: len(asked)]]
            seen = [replace(one, images=(image, *one.images[1:])) for one, image in zip(asked, images, strict=False)]
            other = strangeness(subject, task, detector, seen)
            patients = [f"{name}: {image.name}" for image in images]
            found = told_apart(own, other, _patients(asked), patients, name, at_least=self.at_least)
            measures.append(self._shown(subject, task, found, seen, other))
        return measures

    def _shown(
        self, subject: Subject, task: Task, measure: Measure, seen: Sequence[Example], found: "Strangeness"
    ) -> Measure:
        """The figure with the strange images that look most usual, and what was said of each."""
        kind = measure.name.partition(":")[0]
        names = [f"{one.source}:{one.id} {kind}" for one in seen]
        for name, one, answer in zip(names, seen, found.answers, strict=True):
            said = prediction(one, answer, arm=MAIN, task=task.name)
            subject.evidence.shown[name] = [Shown(change=kind, example=one, said=said)]
        return replace(measure, items=tuple(names[place] for place in np.argsort(found.features, kind="stable")))


@dataclass(kw_only=True)
class Corruption:
    """Measures what noise, blur, contrast, brightness and compression do to accuracy and to confidence.

    Args:
        task: Task file of closed questions about images.
        kinds: Names out of `CORRUPTIONS`.
        severities: From 1 to 5; the limit holds for the middle one.
        at_most: Greatest loss of accuracy at the middle severity.
        limit: Most questions, spread over as many patients as there are.
    """

    task: str
    kinds: list[str] = field(default_factory=lambda: list(CORRUPTIONS))
    severities: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5])
    at_most: float | None = None
    limit: int = 60

    def __post_init__(self) -> None:
        check_names(self.kinds, CORRUPTIONS)
        if not self.severities or not all(1 <= one <= 5 for one in self.severities):
            raise ConfigError(f"severities are {self.severities}; expected numbers from 1 to 5")

    @property
    def title(self) -> str:
        """What is asked."""
        return "What do worse pictures do to the answers?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The loss of accuracy at each severity, and how sure the model stays."""
        task = subject.task(self.task)
        asked = spread(task.examples(), limit=self.limit)
        plain = subject.answers(task, asked)
        middle = sorted(self.severities)[len(self.severities) // 2]
        measures = []
        for kind in self.kinds:
            for severity in self.severities:
                seen = [
                    replace(one, images=tuple(Changed(image, kind, severity) for image in one.images)) for one in asked
                ]
                worse = subject.answers(task, asked, seen=seen, name=f"{kind} {severity}")
                limit = self.at_most if severity <= middle else 1.0
                measures.append(loss(plain, worse, f"{kind}, severity {severity}", most=limit))
        return measures


class Distance:
    """How far features lie from those that are usual.

    Args:
        usual_NW: Features of usual images.
    """

    def __init__(self, usual_NW: NDArray[np.float32]) -> None:
        self._fitted = LedoitWolf().fit(usual_NW.astype(np.float64))

    def of(self, features_NW: NDArray[np.float32]) -> FloatArray:
        """Squared Mahalanobis distances (N,)."""
        distances: FloatArray = self._fitted.mahalanobis(features_NW.astype(np.float64))
        return distances


@torch.inference_mode()
def mean_features(session: Session, images: Sequence[LazyImage]) -> NDArray[np.float32]:
    """Mean over the tokens of the vision encoder (N, W).

    Raises:
        ConfigError: The model does not see.
    """
    vision = session.model.vision
    if vision is None:
        raise ConfigError("the model has no vision encoder; leave out the checks of images")
    parts = []
    for start in range(0, len(images), FEATURES_AT_ONCE):
        some = images[start : start + FEATURES_AT_ONCE]
        features_NPW = features_of(some, vision=vision, processor=session.processor, device=session.device)
        parts.append(features_NPW.mean(1).float().cpu().numpy())
    features_NW: NDArray[np.float32] = np.concatenate(parts)
    return features_NW


class Strangeness(NamedTuple):
    """How strange each image is by each detector (N,), the higher, the stranger; and what was said of it."""

    features: FloatArray
    confidence: FloatArray
    energy: FloatArray
    answers: tuple[Answer, ...] = ()


def strangeness(subject: Subject, task: Task, detector: "Distance", seen: Sequence[Example]) -> Strangeness:
    """Of images, each in one closed question.

    Raises:
        ConfigError: The model does not see.
        DataError: A question has no options.
    """
    if not all(one.options for one in seen):
        raise DataError(
            f"task {task.name}: confidence needs closed questions; choose a task whose questions have options"
        )
    distance = detector.of(mean_features(subject.session, [one.images[0] for one in seen]))
    put = questions_of(task, seen, found=task.retrieved(seen)).put()
    likelihoods = subject.session.option_likelihoods(put)
    # What differs by rounding alone is alike.
    energy = np.array([-float(logsumexp(one)) for one in likelihoods]).round(9)
    sure = np.array([float(np.exp(one.max() - logsumexp(one))) for one in likelihoods]).round(9)
    answers = (_answer(one.options, values) for one, values in zip(seen, likelihoods, strict=True))
    return Strangeness(distance, 1.0 - sure, energy, tuple(answers))


def _answer(options: Sequence[str], likelihoods: FloatArray) -> Answer:
    shares = np.exp(likelihoods - logsumexp(likelihoods)).tolist()
    return Answer(text=options[int(np.argmax(shares))], options=dict(zip(options, shares, strict=True)))


def told_apart(
    own: Strangeness,
    other: Strangeness,
    own_patients: Sequence[str],
    other_patients: Sequence[str],
    kind: str,
    *,
    at_least: float | None,
) -> Measure:
    """How well strange images are told from usual ones, with intervals over patients, whose images go together."""
    patients = [*own_patients, *other_patients]
    strange_N = np.repeat([False, True], [len(own_patients), len(other_patients)])
    features_N, confidence_N, energy_N = (np.concatenate(pair) for pair in zip(own[:3], other[:3], strict=True))
    precision = ranking_estimate(weighted_precision_area, features_N, strange_N, patients)
    alarms = ranking_estimate(partial(weighted_false_alarms, found=0.95), features_N, strange_N, patients)
    return Measure.of(
        auroc_estimate(features_N, strange_N, patients),
        name=f"{kind}: area under the ROC curve of the distance from usual features",
        n=len(strange_N),
        expected=1.0,
        least=at_least,
        note=f"average precision {_words(precision)} where {strange_N.mean():.2f} is guessing; to catch 95 % of them, "
        f"{_words(alarms)} of the usual images raise an alarm; area of confidence "
        f"{_words(auroc_estimate(confidence_N, strange_N, patients))}, of energy "
        f"{_words(auroc_estimate(energy_N, strange_N, patients))}; guessing is 0.5",
    )


def _words(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _patients(examples: Sequence[Example]) -> list[str]:
    return [one.patient for one in examples]


def loss(plain: Sequence[Prediction], worse: Sequence[Prediction], name: str, *, most: float | None) -> Measure:
    """Accuracy on the pictures as they are minus that on worse ones."""
    before, after = (np.array([float(one.answer == one.reference) for one in part]) for part in (plain, worse))
    found = mean_estimate(before - after, [one.patient for one in plain], bounds=(-1.0, 1.0))
    sure = [np.array([one.confidence or 0.0 for one in part]) for part in (plain, worse)]
    less_sure = mean_estimate(sure[0] - sure[1], [one.patient for one in plain], bounds=(-1.0, 1.0))
    return Measure.of(
        found,
        name=f"{name}: loss of accuracy",
        n=len(before),
        expected=0.0,
        most=most,
        items=(one.id for one, lost in zip(worse, before - after, strict=True) if lost > 0),
        note=f"accuracy {before.mean():.2f} to {after.mean():.2f}; mean confidence {sure[0].mean():.2f} to "
        f"{sure[1].mean():.2f}, a loss of {_words(less_sure)}",
    )


def _one_an_image(examples: Sequence[Example]) -> list[Example]:
    return list({one.images[0].name: one for one in examples if one.images}.values())
