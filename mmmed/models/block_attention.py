"""Attention in bfloat16 on a CPU, some queries at a time, as products of matrices and a softmax.

On processors with bfloat16 units but no tiles it takes about two thirds of the time of torch's fused kernel, at the
same distance from float64 (docs/performance.md). Weights are held of one block of queries at a time, and made anew for
the gradient; those of keys behind its last query are not computed.

Letters in tensor names: H heads of queries, G of keys, Q queries of each key's head in a block, T queries, K keys,
C head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 512
"""Queries at a time; for smaller products, waking the threads costs more than is saved."""


@cache
def is_faster() -> bool:
    """Whether this processor is of those that it was found faster on."""
    return torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def block_attention(
    query_1HTC: Tensor, key_1GKC: Tensor, value_1GKC: Tensor, mask_TK: Tensor | None, *, scaling: float
) -> Tensor:
    """What each query reads (1, H, T, C), in bfloat16.

    Args:
        query_1HTC: The last T of the K tokens.
        key_1GKC: Of all tokens; H is a multiple of G.
        value_1GKC: Of all tokens.
        mask_TK: Added to the weights before the softmax: 0 or minus infinity. None lets each token see all before it.
            Either way none sees a later one.
        scaling: Of the products of queries and keys.
    """
    halves = (one[0].bfloat16() for one in (query_1HTC, key_1GKC, value_1GKC))
    mask = mask_TK.bfloat16() if mask_TK is not None else None
    # What is in bfloat16 here, softmax included, stays so.
    with torch.autocast("cpu", enabled=False):
        read_HTC: Tensor = _BlockAttention.apply(*halves, mask, scaling)
    return read_HTC.unsqueeze(0)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        query_HTC: Tensor, key_GKC: Tensor, value_GKC: Tensor, mask_TK: Tensor | None, scaling: float
    ) -> Tensor:
        blocks = _Blocks(query_HTC, key_GKC, mask_TK, scaling)
        read_HTC = torch.empty_like(query_HTC)
        for begin, end, seen in blocks:
            weights_GQK = blocks.weights(begin, end, seen)
            blocks.put(read_HTC, begin, end, torch.bmm(weights_GQK, value_GKC[:, :seen]))
        return read_HTC

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None, float], output: Tensor) -> None:
        query_HTC, key_GKC, value_GKC, mask_TK, ctx.scaling = inputs
        ctx.save_for_backward(query_HTC, key_GKC, value_GKC, mask_TK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_HTC: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query_HTC, key_GKC, value_GKC, mask_TK = ctx.saved_tensors
        blocks = _Blocks(query_HTC, key_GKC, mask_TK, ctx.scaling)
        of_query_HTC = torch.empty_like(query_HTC)
        of_key_GKC, of_value_GKC = (torch.zeros_like(one, dtype=torch.float32) for one in (key_GKC, value_GKC))
        for begin, end, seen in blocks:
            weights_GQK = blocks.weights(begin, end, seen)
            gradient_GQC = blocks.take(gradient_HTC, begin, end)
            of_value_GKC[:, :seen] += torch.bmm(weights_GQK.mT, gradient_GQC)
            of_weights_GQK = torch.bmm(gradient_GQC, value_GKC[:, :seen].mT)
            of_products_GQK = torch._softmax_backward_data(of_weights_GQK, weights_GQK, -1, weights_GQK.dtype)
            blocks.put(of_query_HTC, begin, end, torch.bmm(of_products_GQK, key_GKC[:, :seen]) * ctx.scaling)
            of_key_GKC[:, :seen] += torch.bmm(of_products_GQK.mT, blocks.queries(begin, end))
        return of_query_HTC, of_key_GKC.bfloat16(), of_value_GKC.bfloat16(), None, None


class _Blocks:
    """Queries some at a time: (first, behind the last, keys that they may see)."""

    def __init__(self, query_HTC: Tensor, key_GKC: Tensor, mask_TK: Tensor | None, scaling: float) -> None:
        self._query_HTC, self._key_GKC, self._mask_TK, self._scaling = query_HTC, key_GKC, mask_TK, scaling
        self._queries, self._groups = query_HTC.shape[1], key_GKC.shape[0]
        self._before = key_GKC.shape[1] - self._queries

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        for begin in range(0, self._queries, BLOCK):
            end = min(begin + BLOCK, self._queries)
            yield begin, end, self._before + end

    def queries(self, begin: int, end: int) -> Tensor:
        """Scaled queries (G, Q, C)."""
        return self.take(self._query_HTC, begin, end) * self._scaling

    def weights(self, begin: int, end: int, seen: int) -> Tensor:
        """How much each query takes of each key (G, Q, K)."""
        products_GQK = torch.bmm(self.queries(begin, end), self._key_GKC[:, :seen].mT)
        each = products_GQK.view(self._groups, -1, end - begin, seen)
        if self._mask_TK is not None:
            each += self._mask_TK[begin:end, :seen]
        else:
            each[..., seen - (end - begin) :] += _later()[: end - begin, : end - begin]
        return torch.softmax(products_GQK, dim=-1)

    def take(self, rows_HTC: Tensor, begin: int, end: int) -> Tensor:
        """A block of queries, those of one key's head side by side (G, Q, C)."""
        return rows_HTC[:, begin:end].reshape(self._groups, -1, rows_HTC.shape[2])

    def put(self, rows_HTC: Tensor, begin: int, end: int, block_GQC: Tensor) -> None:
        """The way back."""
        rows_HTC[:, begin:end] = block_GQC.view(rows_HTC.shape[0], end - begin, -1)


@cache
def _later() -> Tensor:
    """Minus infinity on the tokens after each of a block (`BLOCK`, `BLOCK`)."""
    return torch.full((BLOCK, BLOCK), -torch.inf, dtype=torch.bfloat16).triu(1)
