"""The model of the project: vision encoder, projector and language model in one sequence.

With `vision: null` it is its own text-only baseline, through the very same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mmmed.errors import ConfigError
from mmmed.models.cross_attention import GatedCrossAttention, VisualCache, VisualContext, visual_context
from mmmed.models.decoder import decoder_layers
from mmmed.models.features import FrozenFeatures, Kept
from mmmed.models.fusion import splice
from mmmed.models.language_model import LanguageModel
from mmmed.models.order import PictureOrder, picture_places
from mmmed.models.packing import NOTHING, Layout
from mmmed.models.parts import ModelOfParts
from mmmed.models.products import use_fastest_products
from mmmed.models.projector import projected_tokens
from mmmed.models.vision import VisionEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.cache_utils import Cache
    from transformers.generation.streamers import BaseStreamer

    from mmmed.transforms import ImageTransform

# Shape letters: B batch, T tokens, D language width, W vision width, N images, K tokens per image, V vocabulary,
# S supervised tokens.

PARTS = ("vision", "projector", "order", "cross_attention", "language")


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model reads.

    Args:
        ids_BT: Token ids, image places filled with the image id, padded.
        attention_BT: 1 on tokens, 0 on padding.
        supervised_BT: Tokens whose prediction is trained.
        is_image_BT: Places of image features.
        pixels_NCHW: All images, in reading order.
        rejected: The same conversations with the answers that were held to be worse, for preferences.
        layout: How the tokens belong together where all conversations stand in one row; None where each has its own.
        kept: What is known of the images whose features were found; `pixels_NCHW` are then those of the others alone.
    """

    ids_BT: Tensor
    attention_BT: Tensor
    supervised_BT: Tensor
    is_image_BT: Tensor
    pixels_NCHW: Tensor
    rejected: Batch | None = None
    layout: Layout | None = None
    kept: Kept | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        tensors = {name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS}
        others = {name: one.to(device) for name in _PARTS if (one := getattr(self, name)) is not None}
        return replace(self, **tensors, **others)

    @property
    def images(self) -> int:
        """How many images are in it."""
        return len(self.kept.keys) if self.kept is not None else len(self.pixels_NCHW)

    @property
    def conversations(self) -> int:
        """How many conversations are in it."""
        return self.layout.conversations if self.layout is not None else len(self.ids_BT)

    def learned(self) -> Learned:
        """The tokens whose prediction is trained, and where each is predicted."""
        supervised_BT = self.supervised_BT
        if self.layout is not None:
            places_S = (supervised_BT[0] & (self.layout.before_T != NOTHING)).nonzero()[:, 0]
            return Learned(self.ids_BT[0, places_S], self.layout.before_T[places_S])
        rows_S, columns_S = supervised_BT[:, 1:].nonzero().unbind(1)
        return Learned(self.ids_BT[rows_S, columns_S + 1], rows_S * supervised_BT.shape[1] + columns_S)

    def check_padded(self, asker: str) -> None:
        """Refuse a packed batch for what reads conversation by conversation.

        Raises:
            ConfigError: It is packed.
        """
        if self.layout is not None:
            raise ConfigError(f"{asker} reads each conversation in a row of its own; set packing: null of the data")


class Learned(NamedTuple):
    """The tokens of a batch whose prediction is trained.

    Args:
        ids_S: What they are.
        places_S: Where each is predicted: the place of the token before it, counted through the batch's rows.
    """

    ids_S: Tensor
    places_S: Tensor


_TENSORS = ("ids_BT", "attention_BT", "supervised_BT", "is_image_BT", "pixels_NCHW")
_PARTS = ("rejected", "layout", "kept")


class VisionLanguageModel(ModelOfParts):
    """Answers about images in words.

    Args:
        language: The language model.
        vision: The image encoder, or None for text alone.
        projector: Makes a projector from (vision width, language width); goes with `vision`.
        cross_attention: Makes, from (language width, decoder layers), blocks through which the text looks at the
            projected images; None puts them into the text.
        order: Most pictures of an example, where the model is to learn which is which: each place gets an
            embedding (`PictureOrder`), the part `order` of a stage. None leaves it to the place in the text, and so
            does a text-only model.

    Raises:
        ConfigError: Only one of vision and projector is given, cross-attention without them, or the order is below 1.
    """

    parts: ClassVar[tuple[str, ...]] = PARTS

    def __init__(
        self,
        language: LanguageModel,
        vision: VisionEncoder | None,
        projector: Callable[[int, int], nn.Module] | None,
        cross_attention: Callable[[int, int], GatedCrossAttention] | None = None,
        order: int | None = None,
    ) -> None:
        super().__init__()
        if (vision is None) != (projector is None):
            raise ConfigError("vision and projector go together: give both, or set both to null for text alone")
        if cross_attention is not None and vision is None:
            raise ConfigError("cross_attention looks at images: give vision and projector, or set it to null as well")
        if cross_attention is not None and getattr(language, "soft_prompt", None) is not None:
            raise ConfigError("a soft prompt moves the text that cross_attention keeps count of; use another adapter")
        if order is not None and order < 1:
            raise ConfigError(f"order is {order}; expected the most pictures of an example, or null for none")
        self.language = language
        self.vision = vision
        self.projector = projector(vision.width, language.width) if vision and projector else None
        self.order = PictureOrder(order, language.width) if vision and order else None
        layers = len(decoder_layers(language)) if cross_attention else 0
        self.cross_attention = cross_attention(language.width, layers) if cross_attention else None
        self._projected_tokens = self._count_projected_tokens()
        # Beside the text, an image only has a place in it.
        self.tokens_per_image = self._projected_tokens if self.cross_attention is None else 1
        use_fastest_products(self)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.language.tokenizer

    @property
    def transform(self) -> ImageTransform | None:
        """How images are to be prepared; None for a text-only model."""
        return self.vision.transform if self.vision is not None else None

    def recipe(self) -> dict[str, Any]:
        """How to build the same architecture without its weights, part by part; of the order, its places."""
        parts = {name: self.part(name) for name in PARTS if name != "order"}
        recipes = {name: part.recipe() if part is not None else None for name, part in parts.items()}
        return recipes | ({"order": self.order.places} if self.order is not None else {})

    def look(self, pixels_NCHW: Tensor, *, kept: Kept | None = None) -> Tensor:
        """Image features as the encoder gives them (N, P, W); without gradient where it does not learn.

        Where some were `kept`, the pixels are those of the others.
        """
        if self.vision is None:
            raise ConfigError("a text-only model (vision: null) cannot read images")
        if kept is not None:
            if not isinstance(self.vision, FrozenFeatures):
                raise ConfigError("the batch brings features that were kept, and this encoder is no FrozenFeatures")
            return self.vision.complete(kept, pixels_NCHW)
        with torch.set_grad_enabled(torch.is_grad_enabled() and _learns(self.vision)):
            features_NPW: Tensor = self.vision(pixels_NCHW)
        return features_NPW

    def see(self, pixels_NCHW: Tensor, *, kept: Kept | None = None) -> Tensor:
        """Image features in the language model's space (N, K, D)."""
        features_NPW = self.look(pixels_NCHW, kept=kept)
        assert self.projector is not None
        features_NKD: Tensor = self.projector(features_NPW)
        return features_NKD

    def embed(self, batch: Batch) -> Tensor:
        """The sequence of word and image embeddings (B, T, D).

        Raises:
            ConfigError: The model's images are not in the sequence.
        """
        if self.cross_attention is not None:
            raise ConfigError(
                "this model looks at its images through cross_attention, so no sequence of embeddings holds them; "
                "use an objective that reads the whole model, such as AnswerLoss"
            )
        words_BTD = self.language.embed(batch.ids_BT)
        if self.vision is None:
            return words_BTD
        return splice(words_BTD, self._seen(batch, words_BTD), batch.is_image_BT)

    def read(self, batch: Batch, *, positions_BT: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Last hidden states (B, T, D) of a text with its images; `cache` (of `new_cache`) is filled."""
        with self._reading(batch, cache) as embeddings_BTD:
            hidden_BTD: Tensor = self.language(
                embeddings_BTD, batch.attention_BT, positions_BT=positions_BT, cache=cache, layout=batch.layout
            )
        return hidden_BTD

    def read_on(
        self, ids_BT: Tensor, attention_BT: Tensor, *, positions_BT: Tensor | None = None, cache: Cache | None = None
    ) -> Tensor:
        """Last hidden states (B, T, D) of text without images of its own, after what is in the cache."""
        words_BTD = self.language.embed(ids_BT)
        with ExitStack() as stack:
            if self.cross_attention is not None:
                before = cache.visual if isinstance(cache, VisualCache) else None
                nothing_NKD = words_BTD.new_zeros(0, self._projected_tokens, words_BTD.shape[-1])
                context = before or visual_context(nothing_NKD, torch.zeros_like(ids_BT, dtype=torch.bool))
                stack.enter_context(self._looking(context.after(ids_BT.shape[1])))
            hidden_BTD: Tensor = self.language(words_BTD, attention_BT, positions_BT=positions_BT, cache=cache)
        return hidden_BTD

    def new_cache(self) -> DynamicCache:
        """An empty cache for `read` to fill and `read_on` to go on from."""
        return DynamicCache() if self.cross_attention is None else VisualCache()

    def forward(self, batch: Batch) -> Tensor:
        """Logits of every position (B, T, V)."""
        return self.language.head(self.read(batch))

    @torch.inference_mode()
    def generate(self, batch: Batch, *, max_new_tokens: int, streamer: BaseStreamer | None = None) -> Tensor:
        """Greedy answers (B, up to max_new_tokens) to a batch padded on the left."""
        with self._reading(batch) as embeddings_BTD:
            return self.language.generate(
                embeddings_BTD, batch.attention_BT, max_new_tokens=max_new_tokens, streamer=streamer
            )

    @contextmanager
    def _reading(self, batch: Batch, cache: Cache | None = None) -> Iterator[Tensor]:
        """The embeddings of a batch, for as long as the language model may look at its images."""
        if self.cross_attention is None:
            yield self.embed(batch)
            return
        batch.check_padded("a model with cross_attention")
        words_BTD = self.language.embed(batch.ids_BT)
        context = visual_context(self._seen(batch, words_BTD), batch.is_image_BT)
        if isinstance(cache, VisualCache):
            cache.visual = context
        marked_N1D = self.cross_attention.marker.expand(int(batch.is_image_BT.sum()), 1, -1)
        with self._looking(context):
            yield splice(words_BTD, marked_N1D, batch.is_image_BT)

    def _looking(self, context: VisualContext) -> AbstractContextManager[None]:
        assert self.cross_attention is not None
        return self.cross_attention.looking(decoder_layers(self.language), context)

    def _seen(self, batch: Batch, words_BTD: Tensor) -> Tensor:
        if batch.images:
            features_NKD = self.see(batch.pixels_NCHW, kept=batch.kept)
            if self.order is None:
                return features_NKD
            place_N = (
                batch.layout.numbers_N
                if batch.layout is not None
                else picture_places(batch.is_image_BT, tokens=self.tokens_per_image)
            )
            marked_NKD: Tensor = self.order(features_NKD, place_N)
            return marked_NKD
        return words_BTD.new_zeros(0, self._projected_tokens, words_BTD.shape[-1])

    def _count_projected_tokens(self) -> int:
        if self.vision is None or self.projector is None:
            return 0
        return projected_tokens(self.projector, tokens=self.vision.tokens, width=self.vision.width)


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())
