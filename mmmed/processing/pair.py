"""From an `Example` to an image and its text, for models that hold the two against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmmed.errors import RecordError
from mmmed.processing.pixels import to_pixels
from mmmed.processing.processor import ModelInput
from mmmed.records import Example, LazyImage
from mmmed.transforms import ImageTransform

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PairProcessor:
    """Makes model inputs of one image and its reference text; the question is left out.

    Args:
        tokenizer: Of the text encoder.
        transform: Of the vision encoder.
        max_length: Longest text in tokens; a longer one is refused, never cut in silence.
    """

    image_id = -1
    """No token of a text stands for an image."""

    system = None

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, transform: ImageTransform, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.transform = transform
        self.max_length = max_length

    def training(self, example: Example) -> ModelInput:
        """The image and the words of the reference.

        Raises:
            RecordError: There is not exactly one image, no text, or it is too long.
        """
        name = f"{example.source}:{example.id}"
        if len(example.images) != 1 or not example.reference.strip():
            raise RecordError(
                f"{name}: {len(example.images)} images and {len(example.reference.split())} words; contrastive "
                "training needs one image with a text, so choose topics of reports"
            )
        ids = self.text_ids(example.reference, of=name)
        return ModelInput(name, ids, torch.ones_like(ids, dtype=torch.bool), self.pixels(example.images))

    def text_ids(self, text: str, *, of: str) -> Tensor:
        """Token ids of a text (T,), with the marks that the tokenizer puts around it.

        Raises:
            RecordError: It is too long; the message begins with what it is the text `of`.
        """
        # The tokenizer's own warning about length would stand before ours.
        ids = torch.tensor(self.tokenizer(text.strip(), verbose=False)["input_ids"])
        if len(ids) > self.max_length:
            raise RecordError(
                f"{of}: {len(ids)} tokens, more than max_length {self.max_length}; shorten the text or raise it"
            )
        return ids

    def pixels(self, images: Sequence[LazyImage]) -> Tensor:
        """Decode, letterbox and normalise: (N, C, H, W). Raises `ImageError`."""
        return torch.stack([to_pixels(image.open(), self.transform) for image in images])
