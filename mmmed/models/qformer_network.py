"""The network of BLIP-2's querying transformer: a BERT whose first places are queries that look at an image.

Letters in tensor names: B batch, N image tokens, W vision width, D width of the transformer, Q queries, T text tokens,
S = Q + T.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from mmmed.errors import ConfigError

Sight = Literal["apart", "together", "captioning"]


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
        self.apply(initialise)

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


def initialise(module: nn.Module) -> None:
    """As BERT: normal weights of deviation 0.02, biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
