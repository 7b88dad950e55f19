"""Images that a model was not made for: does it notice, and what do worse pictures do to it?

Legend of array names: N images, P tokens, W width.
"""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_sample_images

from mmmed.data.kept import features_of
from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.evaluation.predictions import Prediction
from mmmed.inference.session import Session
from mmmed.records import Example, LazyImage
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure, auroc_estimate, mean_estimate

FEATURES_AT_ONCE = 16

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _noise(picture: Image.Image, generator: np.random.Generator, *, share: float) -> Image.Image:
    values = np.asarray(picture, dtype=np.float32)
    return Image.fromarray((values + generator.normal(0, 255 * share, values.shape)).clip(0, 255).astype(np.uint8))


def _cut(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    width, height = picture.width // 4, picture.height // 4
    left, top = (int(generator.integers(0, 3 * length + 1)) for length in (width, height))
    return picture.crop((left, top, left + width, top + height)).resize(picture.size)


STRANGE: Mapping[str, Change] = {
    "inverted": lambda picture, generator: ImageOps.invert(picture),
    "rotated": lambda picture, generator: picture.rotate(90, expand=True),
    "cropped": _cut,
    "noisy": lambda picture, generator: _noise(picture, generator, share=0.4),
    "blank": lambda picture, generator: Image.new(picture.mode, picture.size, int(generator.integers(0, 256))),
    "photograph": lambda picture, generator: _photograph(picture, generator),
}

CORRUPTIONS: Mapping[str, Callable[[Image.Image, np.random.Generator, int], Image.Image]] = {
    "noise": lambda picture, generator, severity: _noise(picture, generator, share=0.04 * severity),
    "blur": lambda picture, generator, severity: picture.filter(
        ImageFilter.GaussianBlur(0.004 * severity * max(picture.size))
    ),
    "contrast": lambda picture, generator, severity: ImageEnhance.Contrast(picture).enhance(1 - 0.17 * severity),
    "brightness": lambda picture, generator, severity: ImageEnhance.Brightness(picture).enhance(1 + 0.2 * severity),
    "compression": lambda picture, generator, severity: _compressed(picture, quality=(40, 25, 15, 8, 4)[severity - 1]),
}
"""Five severities each, in the manner of Hendrycks & Dietterich 2019, ICLR, section 4."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An image that is changed when it is decoded, the same way each time."""

    image: LazyImage
    kind: str
    severity: int = 0

    @property
    def name(self) -> str:
        """That of the image and the change."""
        return f"{self.image.name}~{self.kind}{self.severity or ''}"

    def open(self) -> Image.Image:
        """Decode and change. Raises `ImageError` as the image itself does."""
        picture, generator = self.image.open(), _generator(self.name)
        if self.severity:
            return CORRUPTIONS[self.kind](picture, generator, self.severity)
        return STRANGE[self.kind](picture, generator)


@dataclass(kw_only=True)
class OutOfDistribution:
    """Measures how well the encoder's features, and how well confidence, tell strange images from those of the task.

    Args:
        task: Task file of questions about images; its training split says what is usual.
        kinds: Strange images: `inverted`, `rotated`, `cropped`, `noisy`, `blank`, `photograph`.
        at_least: Least area under the ROC curve of the features.
        usual: Most training images.
        images: Most images of the task.

    Source: Lee et al. 2018, NeurIPS, A Simple Unified Framework for Detecting Out-of-Distribution Samples (Mahalanobis
    distance; here of one class, with the covariance of Ledoit & Wolf 2004).
    """

    task: str
    kinds: list[str] = field(default_factory=lambda: list(STRANGE))
    at_least: float | None = None
    usual: int = 300
    images: int = 60

    def __post_init__(self) -> None:
        _check_names(self.kinds, STRANGE)

    @property
    def title(self) -> str:
        """What is asked."""
        return "Would a strange image be noticed?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The area under the curve for each kind of strange image."""
        task = subject.task(self.task)
        training, asked = _one_an_image(task.training())[: self.usual], _one_an_image(task.examples())[: self.images]
        detector = Distance(mean_features(subject.session, [one.images[0] for one in training]))
        own = detector.of(mean_features(subject.session, [one.images[0] for one in asked]))
        measures = []
        for kind in self.kinds:
            other = detector.of(mean_features(subject.session, [Changed(one.images[0], kind) for one in asked]))
            measures.append(told_apart(own, other, [one.patient for one in asked], kind, at_least=self.at_least))
        return measures


@dataclass(kw_only=True)
class Corruption:
    """Measures what noise, blur, contrast, brightness and compression do to accuracy and to confidence.

    Args:
        task: Task file of closed questions about images.
        kinds: Names out of `CORRUPTIONS`.
        severities: From 1 to 5; the limit holds for the middle one.
        at_most: Greatest loss of accuracy at the middle severity.
        limit: Most questions; they are the first of the task.
    """

    task: str
    kinds: list[str] = field(default_factory=lambda: list(CORRUPTIONS))
    severities: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5])
    at_most: float | None = None
    limit: int = 60

    def __post_init__(self) -> None:
        _check_names(self.kinds, CORRUPTIONS)
        if not self.severities or not all(1 <= one <= 5 for one in self.severities):
            raise ConfigError(f"severities are {self.severities}; expected numbers from 1 to 5")

    @property
    def title(self) -> str:
        """What is asked."""
        return "What do worse pictures do to the answers?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The loss of accuracy at each severity, and how sure the model stays."""
        task = subject.task(self.task)
        asked = task.examples()[: self.limit]
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


def told_apart(
    own: FloatArray, other: FloatArray, patients: Sequence[str], kind: str, *, at_least: float | None
) -> Measure:
    """The area under the ROC curve of a distance, with its interval over patients, whose two images go together."""
    scores, strange = np.concatenate([own, other]), np.repeat([False, True], [len(own), len(other)])
    found = auroc_estimate(scores, strange, [*patients, *patients])
    missed = float(np.mean(other <= np.quantile(own, 0.95)))
    return Measure.of(
        found,
        name=f"{kind}: area under the ROC curve of the distance from usual features",
        n=len(scores),
        expected=1.0,
        least=at_least,
        note=f"where one in twenty usual images is held for strange, {missed:.2f} of the strange ones pass; "
        "guessing is 0.5",
    )


def loss(plain: Sequence[Prediction], worse: Sequence[Prediction], name: str, *, most: float | None) -> Measure:
    """Accuracy on the pictures as they are minus that on worse ones."""
    before, after = (np.array([float(one.answer == one.reference) for one in part]) for part in (plain, worse))
    found = mean_estimate(before - after, [one.patient for one in plain], bounds=(-1.0, 1.0))
    sure = [float(np.mean([one.confidence or 0.0 for one in part])) for part in (plain, worse)]
    return Measure.of(
        found,
        name=f"{name}: loss of accuracy",
        n=len(before),
        expected=0.0,
        most=most,
        items=(one.id for one, lost in zip(worse, before - after, strict=True) if lost > 0),
        note=f"accuracy {before.mean():.2f} to {after.mean():.2f}, mean confidence {sure[0]:.2f} to {sure[1]:.2f}",
    )


def _one_an_image(examples: Sequence[Example]) -> list[Example]:
    return list({one.images[0].name: one for one in examples if one.images}.values())


def _photograph(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A piece of one of the two photographs that come with scikit-learn, in the picture's own mode and size."""
    photographs = load_sample_images().images
    photograph = Image.fromarray(photographs[int(generator.integers(len(photographs)))])
    side = min(photograph.size) // 2
    left, top = (int(generator.integers(0, length - side)) for length in photograph.size)
    return photograph.crop((left, top, left + side, top + side)).convert(picture.mode).resize(picture.size)


def _compressed(picture: Image.Image, *, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as stored:
        return stored.convert(picture.mode)


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))


def _check_names(given: Sequence[str], known: Mapping[str, object]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown kind of image {name!r}{did_you_mean(name, known)}")
