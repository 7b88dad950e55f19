"""The querying transformer of BLIP-2: learned queries read an image, and can be taught beside text before any decoder.

Letters in tensor names: B batch, N image tokens, W vision width, L language width, D width of the transformer,
Q queries, T text tokens, S = Q + T, P width of the space shared by images and texts, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmmed.errors import ConfigError
from mmmed.models.projector import projector_recipe
from mmmed.models.qformer_network import QFormer, Sight, initialise, sight_mask


class Read(NamedTuple):
    """What came of queries (B, Q, D) and text (B, T, D)."""

    queries_BQD: Tensor
    text_BTD: Tensor


class QFormerProjector(nn.Module):
    """Image tokens are what a few learned queries have read from the image.

    With a vocabulary it can also read text, for the first stage of BLIP-2 (`mmmed.training.qformer.QFormerLoss`),
    which needs no language model; later stages keep the text's parameters and do not use them. Names are those of
    BLIP-2 in transformers: `query_tokens`, `qformer`, `language_projection`, and for text `embeddings`,
    `vision_projection`, `text_projection`, `itm_head`.

    Shapes: (B, N, W) to (B, Q, L) for any N. Parameters: Q · D queries, 2 · D for the first norm, per layer
    12 · D² + 13 · D (self-attention 4 · D² + 6 · D, feed-forward 8 · D² + 7 · D), per layer that looks
    2 · D² + 2 · W · D + 6 · D, and D · L + L for the way out. With a vocabulary of V: per layer 8 · D² + 7 · D
    more, (V + 2) · D + positions · D embeddings, 2 · (D · P + P) + 2 · D + 2 for the heads, 1 temperature, and
    D² + 3 · D + V + 2 for captioning.

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        queries: Tokens that come out.
        width: D.
        layers: Layers.
        heads: Heads of every attention.
        every: 2 lets the queries look at the image in every second layer.
        dropout: Share of units and of attention dropped in training.
        vocabulary: Ids of the language model's tokenizer, for text; None reads no text.
        positions: Longest text in tokens, the token in front of it counted.
        shared: P, width of the space in which images and texts are compared.

    Raises:
        ConfigError: The heads do not divide the width.

    Source: Li et al., BLIP-2 (2023), section 3.1. There the weights start from BERT base, and the text is BERT's own
    tokens; here they start at random, and the tokens are the language model's.
    """

    def __init__(
        self,
        vision_width: int,
        language_width: int,
        queries: int = 32,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        every: int = 2,
        dropout: float = 0.1,
        vocabulary: int | None = None,
        positions: int = 512,
        shared: int = 256,
    ) -> None:
        super().__init__()
        self._rebuild = {
            "queries": queries,
            "width": width,
            "layers": layers,
            "heads": heads,
            "every": every,
            "dropout": dropout,
            "vocabulary": vocabulary,
            "positions": positions,
            "shared": shared,
        }
        self.vocabulary, self.positions = vocabulary, positions
        self.query_tokens = nn.Parameter(torch.randn(1, queries, width) * 0.02)
        self.qformer = QFormer(
            width=width,
            context_width=vision_width,
            layers=layers,
            heads=heads,
            every=every,
            text=vocabulary is not None,
            dropout=dropout,
        )
        self.language_projection = nn.Linear(width, language_width)
        if vocabulary is not None:
            self.embeddings = nn.Module()
            self.embeddings.word_embeddings = nn.Embedding(vocabulary + 2, width)
            self.embeddings.position_embeddings = nn.Embedding(positions, width)
            self.vision_projection = nn.Linear(width, shared)
            self.text_projection = nn.Linear(width, shared)
            self.itm_head = nn.Linear(width, 2)
            self.temperature = nn.Parameter(torch.tensor(0.07))
            self.caption_transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-12))
            self.caption_bias = nn.Parameter(torch.zeros(vocabulary + 2))
        self.apply(initialise)

    @property
    def reads_text(self) -> bool:
        """Whether it was made with a vocabulary."""
        return self.vocabulary is not None

    @property
    def whole_text_id(self) -> int:
        """Id of the token in front of a text whose last state stands for all of it (BERT's CLS)."""
        return int(self.vocabulary or 0)

    @property
    def caption_id(self) -> int:
        """Id of the token in front of a text that is to be written (BLIP's DEC)."""
        return int(self.vocabulary or 0) + 1

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, to which the two widths are added."""
        return projector_recipe(self, **self._rebuild)

    def text_side(self) -> list[nn.Parameter]:
        """What serves the reading of text alone, and has no part in `forward`."""
        names = ("embeddings.", "vision_projection.", "text_projection.", "itm_head.", "temperature", "caption_")
        parts = (".intermediate.", ".output.dense", ".output.LayerNorm")
        return [
            parameter
            for name, parameter in self.named_parameters()
            if name.startswith(names) or (any(part in name for part in parts) and "attention." not in name)
        ]

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Query (B, N, W) to (B, Q, L)."""
        queries_BQD = self.query_tokens.expand(len(features_BNW), -1, -1)
        read_BQD = self.qformer(queries_BQD, features_BNW, queries=queries_BQD.shape[1])
        projected_BQL: Tensor = self.language_projection(read_BQD)
        return projected_BQL

    def read(self, features_BNW: Tensor, ids_BT: Tensor, attention_BT: Tensor, *, sight: Sight) -> Read:
        """Read images and texts in one pass, seeing each other as `sight_mask` says.

        Raises:
            ConfigError: It was made without a vocabulary, a text is too long, or an id is not in the vocabulary.
        """
        self._check(ids_BT)
        count = self.query_tokens.shape[1]
        embeddings: Any = self.embeddings
        places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        words_BTD = embeddings.word_embeddings(ids_BT) + embeddings.position_embeddings(places_T)
        sequence_BSD = torch.cat([self.query_tokens.expand(len(ids_BT), -1, -1), words_BTD], dim=1)
        allowed = sight_mask(sight, queries=count, attention_BT=attention_BT)
        hidden_BSD = self.qformer(sequence_BSD, features_BNW, queries=count, allowed=allowed)
        return Read(hidden_BSD[:, :count], hidden_BSD[:, count:])

    def similarity(self, read: Read) -> Tensor:
        """Cosine of each image (row) with each text (column), by the query that is nearest to the text (B, B)."""
        images_BQP = normalize(self.vision_projection(read.queries_BQD), dim=-1)
        texts_BP = normalize(self.text_projection(read.text_BTD[:, 0]), dim=-1)
        return torch.einsum("iqp,tp->iqt", images_BQP, texts_BP).amax(1)

    def match_logits(self, read: Read) -> Tensor:
        """Logits of "the text is another image's" and "it is this image's" (B, 2), averaged over the queries."""
        logits_BQ2: Tensor = self.itm_head(read.queries_BQD)
        return logits_BQ2.mean(1)

    def caption_logits(self, text: Tensor) -> Tensor:
        """Logits of the next token (…, V + 2) from states of text (…, D); the output matrix is the embeddings'."""
        embeddings: Any = self.embeddings
        logits: Tensor = nn.functional.linear(
            self.caption_transform(text), embeddings.word_embeddings.weight, self.caption_bias
        )
        return logits

    def _check(self, ids_BT: Tensor) -> None:
        if self.vocabulary is None:
            raise ConfigError("this Q-Former reads no text; give QFormerProjector `vocabulary`, the tokenizer's size")
        if ids_BT.shape[1] > self.positions:
            raise ConfigError(f"a text of {ids_BT.shape[1]} tokens for {self.positions} positions; raise `positions`")
        if int(ids_BT.max()) > self.caption_id:
            raise ConfigError(
                f"token id {int(ids_BT.max())} is beyond vocabulary {self.vocabulary} of the Q-Former; "
                "set `vocabulary` to the size of the language model's tokenizer"
            )
