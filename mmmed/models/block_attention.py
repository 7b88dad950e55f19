"""Attention in bfloat16 on a CPU, some queries at a time, as products of matrices and a softmax.

On processors with bfloat16 units but no tiles it takes about two thirds of the time of torch's fused kernel, at the
same distance from float64 (docs/performance.md). Weights are held of one block of queries at a time, and made anew for
the gradient; those of keys behind its last query are not computed.

Letters in tensor names: H heads of queries, G of keys, Q queries of each key's head in a block, T queries, K keys,
C head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 512
"""Queries at a time; for smaller products, waking the threads costs more than is saved."""


class Span(NamedTuple):
    """Queries that read the same keys.

    Args:
        begin: The first query.
        end: Behind the last.
        first_key: That they see.
        last_key: Behind the last that they see.
        mask_QK: Added to their weights before the softmax: 0 or minus infinity. None lets each token see all before
            it. Either way none sees a later one: the last query stands at the last key.
        root: Keys at the beginning of the row that are theirs, too, before the others.
    """

    begin: int
    end: int
    first_key: int
    last_key: int
    mask_QK: Tensor | None
    root: int = 0


@cache
def is_faster() -> bool:
    """Whether this processor is of those that it was found faster on."""
    return torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def block_attention(
    query_1HTC: Tensor, key_1GKC: Tensor, value_1GKC: Tensor, spans: Sequence[Span], *, scaling: float
) -> Tensor:
    """What each query reads (1, H, T, C), in bfloat16.

    Args:
        query_1HTC: Each of one span.
        key_1GKC: H is a multiple of G.
        value_1GKC: As keys.
        spans: Of the queries; together they are all of them.
        scaling: Of the products of queries and keys.
    """
    halves = [one[0].bfloat16() for one in (query_1HTC, key_1GKC, value_1GKC)]
    # What is in bfloat16 here, softmax included, stays so.
    with torch.autocast("cpu", enabled=False):
        read_HTC: Tensor = _BlockAttention.apply(*halves, spans, scaling)
    return read_HTC.unsqueeze(0)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(query_HTC: Tensor, key_GKC: Tensor, value_GKC: Tensor, spans: Sequence[Span], scaling: float) -> Tensor:
        row = _Row(query_HTC, key_GKC, scaling)
        read_HTC = row.like_queries()
        for block in _blocks(spans):
            weights_GQK = row.weights(block)
            row.put(read_HTC, block, torch.bmm(weights_GQK, row.seen(value_GKC, block)))
        return read_HTC

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Sequence[Span], float], output: Tensor) -> None:
        *tensors, ctx.spans, ctx.scaling = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_HTC: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query_HTC, key_GKC, value_GKC = ctx.saved_tensors
        row = _Row(query_HTC, key_GKC, ctx.scaling)
        of_query_HTC = row.like_queries()
        of_key_GKC, of_value_GKC = (torch.zeros_like(one, dtype=torch.float32) for one in (key_GKC, value_GKC))
        for block in _blocks(ctx.spans):
            weights_GQK = row.weights(block)
            gradient_GQC = row.take(gradient_HTC, block)
            row.add(of_value_GKC, block, torch.bmm(weights_GQK.mT, gradient_GQC))
            of_weights_GQK = torch.bmm(gradient_GQC, row.seen(value_GKC, block).mT)
            of_products_GQK = torch._softmax_backward_data(of_weights_GQK, weights_GQK, -1, weights_GQK.dtype)
            row.put(of_query_HTC, block, torch.bmm(of_products_GQK, row.seen(key_GKC, block)))
            row.add(of_key_GKC, block, torch.bmm(of_products_GQK.mT, row.queries(block)))
        return of_query_HTC.mul_(ctx.scaling), of_key_GKC.bfloat16(), of_value_GKC.bfloat16(), None, None


def _blocks(spans: Sequence[Span]) -> Iterator[Span]:
    """The spans, none longer than a block, and none with keys behind its last query."""
    for begin, end, first_key, last_key, mask, root in spans:
        for first in range(begin, end, BLOCK):
            last = min(first + BLOCK, end)
            seen = last_key - (end - last)
            part = mask[first - begin : last - begin, : root + seen - first_key] if mask is not None else None
            yield Span(first, last, first_key, seen, part, root)


class _Row:
    """Queries and keys, of which weights are made."""

    def __init__(self, query_HTC: Tensor, key_GKC: Tensor, scaling: float) -> None:
        self._scaled_HTC, self._key_GKC = query_HTC * scaling, key_GKC
        self._groups = key_GKC.shape[0]

    def like_queries(self) -> Tensor:
        """Room for a row of all heads (H, T, C), those of one token side by side as layers have them."""
        heads, tokens, width = self._scaled_HTC.shape
        return self._scaled_HTC.new_empty(tokens, heads, width).transpose(0, 1)

    def weights(self, block: Span) -> Tensor:
        """How much each query takes of each key (G, Q, K)."""
        products_GQK = torch.bmm(self.queries(block), self.seen(self._key_GKC, block).mT)
        queries = block.end - block.begin
        each = products_GQK.view(self._groups, -1, queries, products_GQK.shape[2])
        if block.mask_QK is not None:
            each += block.mask_QK
        else:
            each[..., -queries:] += _later()[:queries, :queries]
        return torch.softmax(products_GQK, dim=-1)

    def queries(self, block: Span) -> Tensor:
        """Scaled queries (G, Q, C)."""
        return self.take(self._scaled_HTC, block)

    def seen(self, row_GKC: Tensor, block: Span) -> Tensor:
        """What a block sees of keys or values."""
        seen_GKC = row_GKC[:, block.first_key : block.last_key]
        return torch.cat((row_GKC[:, : block.root], seen_GKC), dim=1) if block.root else seen_GKC

    def add(self, row_GKC: Tensor, block: Span, block_GKC: Tensor) -> None:
        """Add to what it sees of them."""
        row_GKC[:, : block.root] += block_GKC[:, : block.root]
        row_GKC[:, block.first_key : block.last_key] += block_GKC[:, block.root :]

    def take(self, row_HTC: Tensor, block: Span) -> Tensor:
        """A block of queries, those of one key's head side by side (G, Q, C)."""
        return row_HTC[:, block.begin : block.end].reshape(self._groups, -1, row_HTC.shape[2])

    def put(self, row_HTC: Tensor, block: Span, block_GQC: Tensor) -> None:
        """The way back."""
        row_HTC[:, block.begin : block.end] = block_GQC.view(len(row_HTC), -1, row_HTC.shape[2])


@cache
def _later() -> Tensor:
    """Minus infinity on the tokens after each of a block (`BLOCK`, `BLOCK`)."""
    return torch.full((BLOCK, BLOCK), -torch.inf, dtype=torch.bfloat16).triu(1)
