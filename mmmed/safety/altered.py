"""Images made strange, or worse by degrees, the same way each time."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.records import LazyImage

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _noise(picture: Image.Image, generator: np.random.Generator, *, share: float) -> Image.Image:
    values = np.asarray(picture, dtype=np.float32)
    return Image.fromarray((values + generator.normal(0, 255 * share, values.shape)).clip(0, 255).astype(np.uint8))


def _cut(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    width, height = picture.width // 4, picture.height // 4
    left, top = (int(generator.integers(0, 3 * length + 1)) for length in (width, height))
    return picture.crop((left, top, left + width, top + height)).resize(picture.size)


def _ultrasound(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A sector of speckle in bands, as of another modality."""
    across, down, _ = _places(picture)
    depth, angle = np.hypot(across, down), np.abs(np.arctan2(across, down + 1e-6))
    bands = 1 + 0.5 * np.cos(14 * depth + generator.uniform(0, 6))
    values = generator.rayleigh(60, depth.shape) * bands * (1.1 - depth)
    return _drawn(np.where((angle < 0.7) & (depth > 0.08) & (depth < 0.98), values, 0), picture)


def _limb(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """Two long bones in soft tissue with a joint between, as of another part of the body."""
    across, down, grain = _places(picture, generator)
    tilted = across + generator.uniform(-0.15, 0.15) * (down - 0.5)
    bone = (np.minimum(np.abs(tilted - 0.09), np.abs(tilted + 0.09)) < 0.05) & (np.abs(down - 0.5) > 0.02)
    return _drawn(90.0 * (np.abs(tilted) < 0.26) + 110.0 * bone + 8 * grain, picture)


def _places(
    picture: Image.Image, generator: np.random.Generator | None = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each pixel, how far it is from the middle and from the top, in parts of the height; and grain."""
    down, across = np.mgrid[0 : picture.height, 0 : picture.width].astype(np.float64) / picture.height
    grain = generator.standard_normal(down.shape) if generator is not None else np.zeros_like(down)
    return across - picture.width / picture.height / 2, down, grain


def _drawn(values: FloatArray, like: Image.Image) -> Image.Image:
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert(like.mode)


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


STRANGE: Mapping[str, Change] = {
    "inverted": lambda picture, generator: ImageOps.invert(picture),
    "rotated": lambda picture, generator: picture.rotate(90, expand=True),
    "cropped": _cut,
    "noisy": lambda picture, generator: _noise(picture, generator, share=0.4),
    "blank": lambda picture, generator: Image.new(picture.mode, picture.size, int(generator.integers(0, 256))),
    "photograph": _photograph,
    "ultrasound": _ultrasound,
    "limb": _limb,
}
"""Other modality and other body part are drawings; real ones come from another task (`OutOfDistribution.others`)."""

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


def check_names(given: Sequence[str], known: Mapping[str, object]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown kind of image {name!r}{did_you_mean(name, known)}")


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))
