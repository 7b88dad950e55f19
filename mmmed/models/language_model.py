"""The seam of language models: what reads embeddings, so that images and words enter by the same door."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.cache_utils import Cache
    from transformers.generation.streamers import BaseStreamer

    from mmmed.models.packing import Layout
    from mmmed.models.tree_row import Before

# Shape letters: B batch, T tokens, D width, V vocabulary, S supervised tokens.


class LanguageModel(nn.Module, ABC):
    """A decoder that reads embeddings."""

    tokenizer: PreTrainedTokenizerBase

    @property
    @abstractmethod
    def width(self) -> int:
        """D, the width of a token embedding."""

    @property
    @abstractmethod
    def output_matrix(self) -> Tensor:
        """The vector of each word that hidden states are compared with (V, D)."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Class path and arguments that build the same architecture without its weights."""

    @abstractmethod
    def embed(self, ids_BT: Tensor) -> Tensor:
        """Token embeddings (B, T, D)."""

    @abstractmethod
    def forward(
        self,
        embeddings_BTD: Tensor,
        attention_BT: Tensor | None,
        *,
        positions_BT: Tensor | None = None,
        cache: Cache | None = None,
        layout: Layout | None = None,
        before: Before | None = None,
    ) -> Tensor:
        """Last hidden states (B, T, D).

        Args:
            embeddings_BTD: What is read.
            attention_BT: 1 on tokens (those in the cache first) and 0 on padding. None for packed rows: each
                token then sees those of its own document, and documents begin where the positions begin anew.
            positions_BT: Place of each token in its sequence; None counts the tokens, and not the padding.
            cache: Keys and values of what was read before; it takes up those of this call.
            layout: How the tokens of one row (B = 1) belong together, where conversations share their beginnings; it
                tells their places and who sees whom, in the stead of attention and positions.
            before: What the conversations of such a row go on from, which was read before it, on a CPU.
        """

    @property
    def reads_rows(self) -> bool:
        """Whether it reads rows with a `layout` faster than padded ones."""
        return False

    def finish_training(self) -> None:
        """Get ready to answer fast, and to learn no more."""

    @abstractmethod
    def head(self, hidden_SD: Tensor, *, exact: bool = False) -> Tensor:
        """Logits over the vocabulary (S, V) of the hidden states that are asked for, and of no others.

        Args:
            hidden_SD: Last hidden states.
            exact: In float32, whatever the weights are held in. In bfloat16 logits are an eighth apart, and words that
                are compared with each other often alike. Costs a copy of the output matrix.
        """

    @abstractmethod
    def generate(
        self, embeddings_BTD: Tensor, attention_BT: Tensor, *, max_new_tokens: int, streamer: BaseStreamer | None = None
    ) -> Tensor:
        """Greedy continuation (B, up to max_new_tokens) of left-padded embeddings."""
