"""The images of a reading, each looked at once.

Shape letters: N images, K tokens per image, D language width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, LazyImage

IMAGES_KEPT = 64


class Album:
    """The images of a reading: each a number below zero inside token sequences, and its features, computed once.

    Args:
        model: Whose encoder looks at them.
        processor: Decodes them as in training.
    """

    def __init__(self, model: VisionLanguageModel, processor: Processor) -> None:
        self._model = model
        self._processor = processor
        self._images: dict[str, LazyImage] = {}
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._features: OrderedDict[str, Tensor] = OrderedDict()

    @property
    def size(self) -> int:
        """Pictures that it was shown."""
        return len(self._names)

    def sequence(self, example: Example) -> tuple[int, ...]:
        """Token ids of a question, each image's places filled with the image's own number."""
        # Pixels are decoded when the image is looked at, and once for all questions about it.
        ids = self._processor.question(example, pixels=self._processor.pixels(())).ids.tolist()
        images = iter(example.images)
        tokens, found, run = [], -1, 0
        for token in ids:
            if token != self._processor.image_id:
                tokens.append(token)
                continue
            if run == 0:
                found, run = self._number(next(images)), self._processor.tokens_per_image
            run -= 1
            tokens.append(found)
        return tuple(tokens)

    def images(self, tokens: Sequence[int]) -> list[LazyImage]:
        """The images in a stretch of a sequence, in reading order."""
        places = [token for token in tokens if token < 0]
        return [self._images[self._names[-1 - token]] for token in places[:: max(1, self._processor.tokens_per_image)]]

    def pixels(self, images: Sequence[LazyImage]) -> Tensor:
        """The images as the encoder takes them (N, 3, height, width)."""
        return self._processor.pixels(images).to(next(self._model.parameters()).device)

    def features(self, images: Sequence[LazyImage]) -> Tensor:
        """Features in the language model's space (N, K, D)."""
        wanted = dict.fromkeys(image.name for image in images)
        known = {name: self._features[name] for name in wanted if name in self._features}
        if unknown := [name for name in wanted if name not in known]:
            pixels_NCHW = self.pixels([self._images[name] for name in unknown])
            known.update(zip(unknown, self._model.see(pixels_NCHW), strict=True))
        for name in wanted:
            self._features[name] = known[name]
            self._features.move_to_end(name)
        while len(self._features) > IMAGES_KEPT:
            self._features.popitem(last=False)
        return torch.stack([known[image.name] for image in images])

    def _number(self, image: LazyImage) -> int:
        if image.name not in self._numbers:
            self._numbers[image.name] = -1 - len(self._names)
            self._names.append(image.name)
            self._images[image.name] = image
        return self._numbers[image.name]
