"""The model of the project: vision encoder, projector and language model in one sequence.

With `vision: null` it is its own text-only baseline, through the very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.fusion import splice
from mmmed.models.language import LanguageModel
from mmmed.models.projector import projected_tokens
from mmmed.models.vision import VisionEncoder

if TYPE_CHECKING:
    from transformers.generation.streamers import BaseStreamer

    from mmmed.transforms import ImageTransform

# Shape letters: B batch, T tokens, D language width, W vision width, N images, K tokens per image, V vocabulary.

PARTS = ("vision", "projector", "language")


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model reads.

    Args:
        ids_BT: Token ids, image places filled with the image id, padded.
        attention_BT: 1 on tokens, 0 on padding.
        supervised_BT: Tokens whose prediction is trained.
        is_image_BT: Places of image features.
        pixels_NCHW: All images, in reading order.
    """

    ids_BT: Tensor
    attention_BT: Tensor
    supervised_BT: Tensor
    is_image_BT: Tensor
    pixels_NCHW: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def _tensors(self) -> Iterator[Tensor]:
        yield from (self.ids_BT, self.attention_BT, self.supervised_BT, self.is_image_BT, self.pixels_NCHW)


class VisionLanguageModel(nn.Module):
    """Answers about images in words.

    Args:
        language: The language model.
        vision: The image encoder, or None for text alone.
        projector: Makes a projector from (vision width, language width); goes with `vision`.

    Raises:
        ConfigError: Only one of vision and projector is given.
    """

    def __init__(
        self,
        language: LanguageModel,
        vision: VisionEncoder | None,
        projector: Callable[[int, int], nn.Module] | None,
    ) -> None:
        super().__init__()
        if (vision is None) != (projector is None):
            raise ConfigError("vision and projector go together: give both, or set both to null for text alone")
        self.language = language
        self.vision = vision
        self.projector = projector(vision.width, language.width) if vision and projector else None
        self.tokens_per_image = self._count_image_tokens()

    @property
    def transform(self) -> ImageTransform | None:
        """How images are to be prepared; None for a text-only model."""
        return self.vision.transform if self.vision is not None else None

    def recipe(self) -> dict[str, Any]:
        """How to build the same architecture without its weights, part by part."""
        return {name: part.recipe() if (part := self.part(name)) is not None else None for name in PARTS}

    def part(self, name: str) -> Any:
        """One of `PARTS` by name, or None."""
        return getattr(self, name)

    def see(self, pixels_NCHW: Tensor) -> Tensor:
        """Image features in the language model's space (N, K, D)."""
        if self.vision is None or self.projector is None:
            raise ConfigError("a text-only model (vision: null) cannot read images")
        with torch.set_grad_enabled(torch.is_grad_enabled() and _learns(self.vision)):
            features_NPW = self.vision(pixels_NCHW)
        features_NKD: Tensor = self.projector(features_NPW)
        return features_NKD

    def embed(self, batch: Batch) -> Tensor:
        """The sequence of word and image embeddings (B, T, D)."""
        words_BTD = self.language.embed(batch.ids_BT)
        if self.vision is None:
            return words_BTD
        nothing_NKD = words_BTD.new_zeros(0, self.tokens_per_image, words_BTD.shape[-1])
        features_NKD = self.see(batch.pixels_NCHW) if len(batch.pixels_NCHW) else nothing_NKD
        return splice(words_BTD, features_NKD, batch.is_image_BT)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of every position (B, T, V)."""
        return self.language.head(self.language(self.embed(batch), batch.attention_BT))

    @torch.inference_mode()
    def generate(self, batch: Batch, *, max_new_tokens: int, streamer: BaseStreamer | None = None) -> Tensor:
        """Greedy answers (B, up to max_new_tokens) to a batch padded on the left."""
        return self.language.generate(
            self.embed(batch), batch.attention_BT, max_new_tokens=max_new_tokens, streamer=streamer
        )

    def _count_image_tokens(self) -> int:
        if self.vision is None or self.projector is None:
            return 0
        return projected_tokens(self.projector, tokens=self.vision.tokens, width=self.vision.width)


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())
