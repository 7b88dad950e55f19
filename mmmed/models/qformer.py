"""The querying transformer of BLIP-2: learned queries read an image, and can be taught beside text before any decoder.

Letters in tensor names: B batch, N image tokens, W vision width, L language width, D width of the transformer,
Q queries, T text tokens, S = Q + T, P width of the space shared by images and texts, V vocabulary.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

from mmmed.errors import ConfigError
from mmmed.models.projector import projector_recipe

Sight = Literal["apart", "together", "captioning"]


class Read(NamedTuple):
    """What came of queries (B, Q, D) and text (B, T, D)."""

    queries_BQD: Tensor
    text_BTD: Tensor


def sight_mask(sight: Sight, *, queries: int, attention_BT: Tensor) -> Tensor:
    """Who may attend to whom (B, 1, S, S), queries before text; nobody attends to padding.

    Args:
        sight: `apart`: queries and text never see each other (contrastive). `together`: all see all (matching).
            `captioning`: queries see queries alone, and text sees the queries and the text up to itself.
        queries: Q.
        attention_BT: 1 on text tokens, 0 on padding.

    Source: Li et al., BLIP-2 (2023), figure 2.
    """
    length = queries + attention_BT.shape[1]
    is_text_S = torch.arange(length, device=attention_BT.device) >= queries
    asks, asked = is_text_S[:, None], is_text_S[None, :]
    if sight == "apart":
        allowed_SS = asks == asked
    elif sight == "together":
        allowed_SS = torch.ones_like(asks & asked)
    else:
        allowed_SS = ~asked | (asks & torch.ones_like(asks & asked).tril())
    there_BS = torch.cat([attention_BT.new_ones(len(attention_BT), queries), attention_BT], dim=1).bool()
    return allowed_SS & there_BS[:, None, None, :]


class QFormer(nn.Module):
    """A BERT whose first places are queries, which alone look at the image, in every so-many-th layer.

    Queries and text share self-attention and have feed-forward layers of their own. Layout and names are those of
    `Blip2QFormerModel` of transformers.

    Args:
        width: D.
        context_width: W, of the image features.
        layers: Number of layers.
        heads: Heads of every attention.
        every: 2 lets the queries look at the image in layers 0, 2, 4 ….
        text: Whether there are feed-forward layers for text.
        dropout: Share of units and of attention dropped in training.

    Raises:
        ConfigError: The heads do not divide the width.

    Source: Li et al., BLIP-2 (2023), section 3.1.
    """

    def __init__(
        self, *, width: int, context_width: int, layers: int, heads: int, every: int, text: bool, dropout: float
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"{heads} heads do not divide width {width} of the Q-Former; change heads or width")
        self.layernorm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(
            _Layer(width, context_width if number % every == 0 else None, heads, text, dropout)
            for number in range(layers)
        )
        self.apply(_initialise)

    def forward(
        self, embeddings_BSD: Tensor, context_BNW: Tensor | None, *, queries: int, allowed: Tensor | None = None
    ) -> Tensor:
        """Map embeddings of queries and text (B, S, D) to hidden states (B, S, D).

        Args:
            embeddings_BSD: Queries first.
            context_BNW: Image features; None where there are no queries.
            queries: Q; 0 for text alone.
            allowed: Who may attend to whom, as of `sight_mask`; all to all without it.
        """
        hidden_BSD: Tensor = self.dropout(self.layernorm(embeddings_BSD))
        layers: Any = self.encoder.layer
        for layer in layers:
            hidden_BSD = layer(hidden_BSD, context_BNW, queries, allowed)
        return hidden_BSD


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
        self.apply(_initialise)

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


class _Layer(nn.Module):
    def __init__(self, width: int, context_width: int | None, heads: int, text: bool, dropout: float) -> None:
        super().__init__()
        self.attention = _Attended(width, width, heads, dropout)
        self.crossattention = _Attended(width, context_width, heads, dropout) if context_width else None
        self.intermediate_query, self.output_query = _Hidden(width), _Output(4 * width, width, dropout)
        if text:
            self.intermediate, self.output = _Hidden(width), _Output(4 * width, width, dropout)

    def forward(self, hidden_BSD: Tensor, context_BNW: Tensor | None, queries: int, allowed: Tensor | None) -> Tensor:
        hidden_BSD = self.attention(hidden_BSD, hidden_BSD, allowed)
        queries_BQD, text_BTD = hidden_BSD[:, :queries], hidden_BSD[:, queries:]
        parts = []
        if queries:
            if self.crossattention is not None:
                queries_BQD = self.crossattention(queries_BQD, context_BNW, None)
            parts.append(self.output_query(self.intermediate_query(queries_BQD), queries_BQD))
        if text_BTD.shape[1]:
            parts.append(self.output(self.intermediate(text_BTD), text_BTD))
        return torch.cat(parts, dim=1)


class _Attended(nn.Module):
    """Attention, its output layer, the residual and the norm after it."""

    def __init__(self, width: int, context_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.share_dropped = heads, dropout
        self.attention = nn.Module()
        self.attention.query = nn.Linear(width, width)
        self.attention.key = nn.Linear(context_width, width)
        self.attention.value = nn.Linear(context_width, width)
        self.output = _Output(width, width, dropout)

    def forward(self, asks_BSD: Tensor, asked_BNW: Tensor, allowed: Tensor | None) -> Tensor:
        layers: Any = self.attention
        read = scaled_dot_product_attention(
            self._heads(layers.query(asks_BSD)),
            self._heads(layers.key(asked_BNW)),
            self._heads(layers.value(asked_BNW)),
            attn_mask=allowed,
            dropout_p=self.share_dropped if self.training else 0.0,
        )
        attended_BSD: Tensor = self.output(read.transpose(1, 2).flatten(2), asks_BSD)
        return attended_BSD

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], self.heads, -1).transpose(1, 2)


class _Hidden(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 4 * width)

    def forward(self, hidden: Tensor) -> Tensor:
        return gelu(self.dense(hidden))


class _Output(nn.Module):
    def __init__(self, width_in: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return normed


def _initialise(module: nn.Module) -> None:
    """As BERT: normal weights of deviation 0.02, biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
