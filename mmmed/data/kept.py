"""Which pictures need not be decoded, since a frozen encoder's features of them are kept already."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, Protocol, runtime_checkable

import PIL
import torch
import xxhash
from torch import Tensor

from mmmed.models.feature_store import FeatureStore
from mmmed.models.features import FrozenFeatures, Kept, digest_of_pixels
from mmmed.models.vision import VisionEncoder
from mmmed.processing import image, pixels
from mmmed.processing.processor import KnownImages, ModelInput, Processor
from mmmed.records import Example, LazyImage

# Shape letters: M images whose features are not kept, C channels, H height, W image width or feature width, P tokens
# per image.

FULL_PRECISION = "32-true"
"""What encoders compute in outside of training."""


@runtime_checkable
class HasContent(Protocol):
    """A lazy image that can tell itself from all others for less than decoding it costs."""

    def content(self) -> bytes:
        """All that decides what `open` of its class gives, such as the bytes of the file. Raises `ImageError`."""
        ...


class Shown(NamedTuple):
    """The images of an example as a model gets them.

    Args:
        known: Of all of them.
        pixels_MCHW: Of those without features, in order.
    """

    known: KnownImages
    pixels_MCHW: Tensor


@dataclass(frozen=True, slots=True)
class KeptPictures:
    """Looks pictures up before they are decoded.

    Args:
        store: Of the encoder, in the precision that it runs in.
        processor: Of the model.
    """

    store: FeatureStore
    processor: Processor

    def show(self, images: Sequence[LazyImage]) -> Shown:
        """Features where they are kept, pixels where not. Raises `ImageError`."""
        settings = f"{_preparation()}{self.processor.transform}"
        decoded: dict[int, Tensor] = {}
        keys = []
        for place, one in enumerate(images):
            if isinstance(one, HasContent):
                keys.append(_key(one, one.content(), settings=settings))
            else:
                decoded[place] = self.processor.pixels([one])[0]
                keys.append(digest_of_pixels(decoded[place]))
        features = self.store.find(keys)
        missing = [place for place, found in enumerate(features) if found is None]
        rest = iter(self.processor.pixels([images[place] for place in missing if place not in decoded]))
        shown = [decoded[place] if place in decoded else next(rest) for place in missing]
        known = KnownImages(self.store.folder, tuple(keys), tuple(features))
        return Shown(known, torch.stack(shown) if shown else self.processor.pixels(()))

    def training(self, example: Example, shown: Shown | None = None) -> ModelInput:
        """As `Processor.training`, with features in the place of the pixels that need not be decoded."""
        if shown is None:
            shown = self.show(example.images)
        made = self.processor.training(example, pixels=shown.pixels_MCHW)
        rejected = made.rejected and replace(made.rejected, known=shown.known)
        return replace(made, known=shown.known, rejected=rejected)


def features_of(
    images: Sequence[LazyImage], *, vision: VisionEncoder, processor: Processor, device: torch.device
) -> Tensor:
    """Features (N, P, W) of images; those that a frozen encoder kept are read, and their pictures not decoded.

    Raises:
        ImageError: A picture cannot be decoded.
    """
    if not isinstance(vision, FrozenFeatures):
        features_NPW: Tensor = vision(processor.pixels(images).to(device))
        return features_NPW
    shown = KeptPictures(vision.store(FULL_PRECISION), processor).show(images)
    kept = Kept.of(shown.known.folder, shown.known.keys, shown.known.features)
    return vision.complete(kept.to(device), shown.pixels_MCHW.to(device))


def _key(one: LazyImage, content: bytes, *, settings: str) -> str:
    kind = type(one)
    digest = xxhash.xxh3_128(f"{kind.__module__}.{kind.__qualname__}|{settings}|".encode())
    digest.update(content)
    return digest.hexdigest()


@cache
def _preparation() -> str:
    """Changes with whatever turns files into pixels: the code here, and Pillow."""
    digest = xxhash.xxh3_64(PIL.__version__.encode())
    for module in (image, pixels):
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()
