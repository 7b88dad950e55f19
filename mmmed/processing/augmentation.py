"""Small changes to training images that leave the meaning of their text as it is, and reports cut to a sentence.

A picture is turned, moved, scaled, lit and grained a little, and mirrored only where nothing that is asked or
answered speaks of a side: in a mirror, the effusion on the left is on the right, and the answer is wrong.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from mmmed.errors import ConfigError
from mmmed.records import Example, LazyImage

LARGEST_ROTATION = 45.0
"""Most degrees a picture may be turned; beyond, up and side would change places."""

LARGEST_SHARE = 0.5
"""Most that a picture may be moved, scaled, lit or grained, as a share of its side or of white."""

LARGEST_SIDE = 2048
"""Pictures of more pixels a side are shrunk to it before: no encoder reads as many, and each one costs time."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

# What a mirror makes wrong, in the languages of the sources: sides, their abbreviations, hours of a clock. An
# underscore may stand beside a word (left_lung), a letter or digit may not (bright, L5).
_SIDES = re.compile(
    r"""(?<![^\W_])(?:
        (?:left|right)(?:s|wards?|most|handed|sided)?
        | [lr]t?
        | [lr](?:[lu]l|ml|[lu]q|[lum]z|hd|a|v|ca|ad|io|pa|cc|mlo)    # RLL, LUQ, RV, LCA, RCC, LMLO
        | o[ds]                                                      # oculus dexter, sinister
        | (?:sinist|dextr|dexter|laevo|levo)\w*
        | situs
        | \d{1,2}\s*o['\u2019]?\s?clock
        | (?:anti-?|counter-?)?clockwise
        | izq\w* | derech\w* | dcha\w*                               # Spanish
        | gauche\w* | droite?s?                                      # French
        | link[es]\w* | recht[es]\w*                                 # German
    )(?![^\W_])""",
    re.IGNORECASE | re.VERBOSE,
)


class _Change(NamedTuple):
    """What is done to the pictures of one example in one epoch; lengths are shares of the picture's sides."""

    angle: float
    right: float
    down: float
    zoom: float
    brightness: float
    contrast: float
    mirrored: bool


@dataclass(frozen=True, slots=True)
class _Changed:
    """A picture that is changed when it is decoded."""

    image: LazyImage
    change: _Change
    noise: float
    chance: str

    @property
    def name(self) -> str:
        """The picture's own name and the chance that changed it, since the content differs from epoch to epoch."""
        return f"{self.image.name}~{self.chance}"

    def open(self) -> Image.Image:
        """Decode and change, in the picture's own mode. Raises `ImageError` as the picture itself does."""
        picture = self.image.open()
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BILINEAR)
        if self.change.mirrored:
            picture = ImageOps.mirror(picture)
        return _toned(_moved(picture, self.change), self.change, noise=self.noise, generator=_generator(self.chance))


# Without slots: the parser of configurations reads the values of a default from its __dict__.
@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far training images are changed, evenly drawn up to these limits; nothing is changed in evaluation.

    What is drawn depends on the seed, the epoch and the example alone: not on workers, ranks or order. All pictures of
    an example are turned and lit alike, so that slices of a volume still fit each other. Features that an encoder keeps
    on disk are of no use to changed pictures.

    Args:
        rotation: Most degrees of a turn to either side.
        translation: Most of a move, as a share of each side.
        zoom: Most of a change in size, as a share of it.
        brightness: Most that is added to or taken from all values, as a share of white.
        contrast: Most of a stretch or squeeze of the values around their mean, as a share of it.
        noise: Standard deviation of Gaussian noise, as a share of white.
        flip: How often a picture is mirrored, in [0, 1]. An example whose text speaks of a side never is. Mirrored
            bodies have their hearts on the other side: leave it at 0 for chest and abdomen.
        one_sentence: How often a reference is cut down to one of its sentences, in [0, 1]; for contrastive training,
            which then knows single sentences, such as prompts are (ConVIRT, arXiv 2010.00747, section 3.2).
        seed: Of all draws.

    Raises:
        ConfigError: A limit is negative or too large.
    """

    rotation: float = 5.0
    translation: float = 0.03
    zoom: float = 0.05
    brightness: float = 0.1
    contrast: float = 0.1
    noise: float = 0.01
    flip: float = 0.0
    one_sentence: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"rotation": LARGEST_ROTATION, "flip": 1.0, "one_sentence": 1.0}
        for name in ("rotation", "translation", "zoom", "brightness", "contrast", "noise", "flip", "one_sentence"):
            value, limit = getattr(self, name), limits.get(name, LARGEST_SHARE)
            if not 0 <= value <= limit:
                raise ConfigError(f"augmentation: {name} is {value}; expected 0 to {limit:g}")

    def changed(self, example: Example, *, epoch: int) -> Example:
        """The same example with pictures that change when they are decoded, and a shorter reference if it comes so."""
        chance = f"{self.seed}:{epoch}:{example.source}:{example.id}"
        example = self._shortened(example, _generator(f"{chance}:sentence"))
        if not example.images:
            return example
        change = self._draw(_generator(chance), may_mirror=not speaks_of_a_side(example))
        images: tuple[LazyImage, ...] = tuple(
            _Changed(image, change, self.noise, f"{chance}:{place}") for place, image in enumerate(example.images)
        )
        return replace(example, images=images)

    def _shortened(self, example: Example, generator: np.random.Generator) -> Example:
        *before, last = example.turns
        if generator.random() >= self.one_sentence or example.options or last.speaker != "assistant":
            return example
        sentence = generator.choice(_SENTENCE_END.split(last.text.strip()))
        return replace(example, turns=(*before, replace(last, text=str(sentence), blanks=(), rejected="")))

    def _draw(self, generator: np.random.Generator, *, may_mirror: bool) -> _Change:
        turn, right, down, zoom, brightness, contrast = generator.uniform(-1, 1, size=6).tolist()
        # Drawn in any case, so that a word in the text changes nothing else about the picture.
        mirrored = bool(generator.random() < self.flip)
        return _Change(
            angle=turn * self.rotation,
            right=right * self.translation,
            down=down * self.translation,
            zoom=1 + zoom * self.zoom,
            brightness=brightness * self.brightness,
            contrast=1 + contrast * self.contrast,
            mirrored=mirrored and may_mirror,
        )


def speaks_of_a_side(example: Example) -> bool:
    """Whether a question, an answer, a worse answer or an option names a side of the body or of the picture.

    Ambiguous words count: what may be a side is taken for one.
    """
    texts = [text for turn in example.turns for text in (turn.text, turn.rejected)]
    return any(_SIDES.search(text) for text in (*texts, *example.options))


def _moved(picture: Image.Image, change: _Change) -> Image.Image:
    if (change.angle, change.right, change.down, change.zoom) == (0, 0, 0, 1):
        return picture
    return picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        _inverse(picture.size, change),
        resample=Image.Resampling.BILINEAR,
        fillcolor=0,
    )


def _inverse(size: tuple[int, int], change: _Change) -> Sequence[float]:
    """From a place in the changed picture to its place in the original, as Pillow asks: x = a x' + b y' + c, and so on.

    The picture is scaled and turned counter-clockwise about its centre, then moved.
    """
    width, height = size
    angle = math.radians(change.angle)
    cosine, sine = math.cos(angle) / change.zoom, math.sin(angle) / change.zoom
    centre_x, centre_y = width / 2, height / 2
    x, y = centre_x + change.right * width, centre_y + change.down * height
    return (
        cosine,
        -sine,
        centre_x - cosine * x + sine * y,
        sine,
        cosine,
        centre_y - sine * x - cosine * y,
    )


def _toned(picture: Image.Image, change: _Change, *, noise: float, generator: np.random.Generator) -> Image.Image:
    if (change.brightness, change.contrast, noise) == (0, 1, 0):
        return picture
    values = np.asarray(picture, dtype=np.float32)
    mean = values.mean()
    values = (values - mean) * np.float32(change.contrast) + mean + np.float32(255 * change.brightness)
    if noise:
        # One value for all colours of a pixel: grain is grey.
        grain_HW = generator.standard_normal(values.shape[:2], dtype=np.float32) * np.float32(255 * noise)
        values += grain_HW if values.ndim == 2 else grain_HW[..., None]
    # Clipped before it is cut down to whole numbers, which would wrap around from black to white.
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _generator(chance: str) -> np.random.Generator:
    digest = hashlib.sha256(chance.encode("utf-8")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
