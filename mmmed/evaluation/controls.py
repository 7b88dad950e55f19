"""The same questions with the wrong image, no image or an empty one: what is left is not seeing.

Beside them the floors of the question itself: what remains when only its form is changed.

Source: the image-reliance battery of arXiv 2603.03437.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from PIL import Image

from mmmed.errors import ConfigError, DataError, did_you_mean
from mmmed.processing.processor import without_images
from mmmed.records import Example, LazyImage

SIDE = 256


@dataclass(frozen=True, slots=True)
class BlankImage:
    """Uniform grey."""

    @property
    def name(self) -> str:
        return "blank"

    def open(self) -> Image.Image:
        """A square of the middle grey value."""
        return Image.new("L", (SIDE, SIDE), 128)


@dataclass(frozen=True, slots=True)
class NoiseImage:
    """Uniform noise, the same for the same original."""

    original: str

    @property
    def name(self) -> str:
        return f"noise:{self.original}"

    def open(self) -> Image.Image:
        """A square of independent grey values."""
        seed = int.from_bytes(hashlib.sha256(self.original.encode()).digest()[:8])
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8))


def blank(examples: Sequence[Example]) -> list[Example]:
    """Every image is uniform grey."""
    return [replace(one, images=tuple(BlankImage() for _ in one.images)) for one in examples]


def noise(examples: Sequence[Example]) -> list[Example]:
    """Every image is noise."""
    return [replace(one, images=tuple(NoiseImage(image.name) for image in one.images)) for one in examples]


def absent(examples: Sequence[Example]) -> list[Example]:
    """No image and no placeholder."""
    return [without_images(one) for one in examples]


def shuffled(examples: Sequence[Example]) -> list[Example]:
    """Every image is that of another patient; all questions of a patient get the same other's.

    Raises:
        DataError: There is only one patient with images.
    """
    images: dict[str, dict[str, LazyImage]] = {}
    for one in examples:
        if one.images:
            images.setdefault(one.patient, {}).update({image.name: image for image in one.images})
    if len(images) < 2:
        raise DataError("the shuffled control needs images of two patients; take more examples")
    patients = Random(0).sample(sorted(images), len(images))
    donor = dict(zip(patients, patients[1:] + patients[:1], strict=True))

    def swap(one: Example) -> Example:
        if not one.images:
            return one
        donated = list(images[donor[one.patient]].values())
        return replace(one, images=tuple(donated[index % len(donated)] for index in range(len(one.images))))

    return [swap(one) for one in examples]


CONTROLS: dict[str, Callable[[Sequence[Example]], list[Example]]] = {
    "blank": blank,
    "shuffled": shuffled,
    "noise": noise,
    "absent": absent,
}


def option_shuffle(examples: Sequence[Example]) -> list[Example]:
    """The options in another order, drawn by the question's identifier and never by its answer.

    What an arm loses by this it had from the places of the options.
    """
    return [replace(one, options=tuple(_reordered(one.options, chance=f"{one.source}:{one.id}"))) for one in examples]


def _reordered(options: Sequence[str], *, chance: str) -> list[str]:
    """Another order than the given one, wherever there is another."""
    drawn = sorted(options, key=lambda option: hashlib.sha256(f"{chance}:{option}".encode()).digest())
    return drawn if tuple(drawn) != tuple(options) else [*drawn[1:], *drawn[:1]]


FLOORS: dict[str, Callable[[Sequence[Example]], list[Example]]] = {
    "option_shuffle": option_shuffle,
}
"""Controls of the question, by name; with `absent` (question only) and the label prior, the floors of every figure."""


def control_named(name: str) -> Callable[[Sequence[Example]], list[Example]]:
    """A control of the image or the question by name. Raises `ConfigError`."""
    known = CONTROLS | FLOORS
    if name not in known:
        raise ConfigError(f"unknown control {name!r}{did_you_mean(name, known)}")
    return known[name]
