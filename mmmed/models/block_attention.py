"""Attention in bfloat16 on a CPU, some queries at a time, as products of matrices and a softmax.

On processors with bfloat16 units but no tiles it takes about two thirds of the time of torch's fused kernel, at the
same distance from float64 (docs/performance.md); on those with tiles it is the faster one where many documents learn.
Weights are held of one block of queries at a time, and made anew for the gradient; those of keys behind its last query
are not computed. Short trees are read side by side, in products of one batch.

Letters in tensor names: H heads of queries, G of keys, T tokens of a row, N spans side by side, Q queries of each in a
block, R queries of each that have the same key, K keys, C head width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 512
"""Queries at a time, of all spans; for smaller products, waking the threads costs more than is saved."""
LEAST = 96
"""Queries of each span at a time."""
SPANS, TOKENS, LENGTH = 8, 2400, 0.8
"""Most spans side by side, the most tokens of them, and the length of the shortest in terms of the longest."""
MANY = 4
"""Spans of a side, on average."""


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
    return torch.cpu._is_avx512_bf16_supported() and not has_tiles()


@cache
def has_tiles() -> bool:
    """Whether this processor has tiles: there torch's kernel is the faster one, but for the gradient of many spans."""
    return torch.cpu._is_amx_tile_supported()


def are_many(sides: Sequence[Side]) -> bool:
    """Whether enough spans lie side by side for their gradient to be faster than torch's on a processor with tiles."""
    return sum(len(side.spans) for side in sides) >= MANY * len(sides)


def block_attention(
    query_1HTC: Tensor, key_1GKC: Tensor, value_1GKC: Tensor, sides: Sequence[Side], *, scaling: float
) -> Tensor:
    """What each query reads (1, H, T, C), in bfloat16.

    Args:
        query_1HTC: Each of one span.
        key_1GKC: H is a multiple of G.
        value_1GKC: As keys.
        sides: The spans of all queries, by `side_by_side`; those of one row serve all layers.
        scaling: Of the products of queries and keys.
    """
    halves = [_by_token(one[0].bfloat16()) for one in (query_1HTC, key_1GKC, value_1GKC)]
    # What is in bfloat16 here, softmax included, stays so.
    with torch.autocast("cpu", enabled=False):
        read_HTC: Tensor = _BlockAttention.apply(*halves, sides, scaling)
    return read_HTC.unsqueeze(0)


class _BlockAttention(torch.autograd.Function):
    @staticmethod
    def forward(query_HTC: Tensor, key_GTC: Tensor, value_GTC: Tensor, sides: Sequence[Side], scaling: float) -> Tensor:
        read_HTC = torch.empty_like(query_HTC)
        for side in sides:
            key_NGKC, value_NGKC = (side.seen(one) for one in (key_GTC, value_GTC))
            for block in side.blocks:
                query_NGRC = block.queries(query_HTC, groups=len(key_GTC)).mul_(scaling)
                weights_NGRK = block.weights(query_NGRC, block.keys(key_NGKC))
                block.put(read_HTC, torch.bmm(weights_NGRK, block.keys(value_NGKC)))
        return read_HTC

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Sequence[Side], float], output: Tensor) -> None:
        *tensors, ctx.sides, ctx.scaling = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_HTC: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query_HTC, key_GTC, value_GTC = ctx.saved_tensors
        gradient_HTC = _by_token(gradient_HTC)
        of_query_HTC = torch.empty_like(query_HTC)
        of_key_GTC, of_value_GTC = (torch.zeros_like(one, dtype=torch.float32) for one in (key_GTC, value_GTC))
        for side in ctx.sides:
            key_NGKC, value_NGKC = (side.seen(one) for one in (key_GTC, value_GTC))
            of_key_NGKC, of_value_NGKC = (torch.zeros_like(key_NGKC, dtype=torch.float32) for _ in range(2))
            for block in side.blocks:
                query_NGRC = block.queries(query_HTC, groups=len(key_GTC)).mul_(ctx.scaling)
                gradient_NGRC = block.hide(block.queries(gradient_HTC, groups=len(key_GTC)))
                weights_NGRK = block.weights(query_NGRC, block.keys(key_NGKC))
                block.keys(of_value_NGKC).add_(torch.bmm(weights_NGRK.mT, gradient_NGRC))
                of_weights_NGRK = torch.bmm(gradient_NGRC, block.keys(value_NGKC).mT)
                of_products_NGRK = torch._softmax_backward_data(of_weights_NGRK, weights_NGRK, -1, weights_NGRK.dtype)
                block.put(of_query_HTC, torch.bmm(of_products_NGRK, block.keys(key_NGKC)))
                block.keys(of_key_NGKC).add_(torch.bmm(of_products_NGRK.mT, query_NGRC))
            side.add(of_key_GTC, of_key_NGKC)
            side.add(of_value_GTC, of_value_NGKC)
        return of_query_HTC.mul_(ctx.scaling), of_key_GTC.bfloat16(), of_value_GTC.bfloat16(), None, None


class Side:
    """Spans that are read side by side; shorter ones are filled up behind their end, with their last token.

    Args:
        spans: Of about the same length, with the same root and as many keys before them; one alone may have a mask.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.root = spans[0].root
        begins, ends, first_keys, last_keys = torch.tensor([span[:4] for span in spans]).T.unsqueeze(-1)
        queries_NQ = begins + torch.arange(int((ends - begins).max()))
        keys_NK = first_keys + torch.arange(int((last_keys - first_keys).max()))
        root_NK = torch.arange(self.root).expand(len(spans), -1)
        self._keys = _Places(torch.cat((root_NK, torch.minimum(keys_NK, last_keys - 1)), dim=1))
        self.blocks = list(self._blocks(torch.minimum(queries_NQ, ends - 1), queries_NQ >= ends))

    def _blocks(self, queries_NQ: Tensor, behind_NQ: Tensor) -> Iterator[_Block]:
        """Some queries of each after others, without the keys behind the last."""
        spans, queries = queries_NQ.shape
        size, mask_QK = max(LEAST, BLOCK // spans), self.spans[0].mask_QK
        for first in range(0, queries, size):
            last = min(first + size, queries)
            part, seen = slice(first, last), self._keys.count - (queries - last)
            later_QQ = _later()[: last - first, : last - first]
            hidden = mask_QK[part, :seen].bfloat16() if mask_QK is not None else later_QQ
            behind = behind_NQ[:, part] if behind_NQ[:, part].any() else None
            yield _Block(self.spans, first, seen, _Places(queries_NQ[:, part]), hidden, behind)

    def seen(self, row_GTC: Tensor) -> Tensor:
        """What they see of keys or values (N x G, K, C)."""
        return self._keys.of(row_GTC)

    def add(self, row_GTC: Tensor, seen_NGKC: Tensor) -> None:
        """Add to what they see of them."""
        each_NGKC = seen_NGKC.view(len(self.spans), len(row_GTC), *seen_NGKC.shape[1:])
        if self.root:
            row_GTC[:, : self.root] += each_NGKC[:, :, : self.root].sum(0)
        for span, one_GKC in zip(self.spans, each_NGKC[:, :, self.root :], strict=True):
            row_GTC[:, span.first_key : span.last_key] += one_GKC[:, : span.last_key - span.first_key]


class _Places:
    """Tokens of a row, some of each span (N, T)."""

    def __init__(self, places_NT: Tensor) -> None:
        self.count = places_NT.shape[1]
        self._places_NT = places_NT
        self._rows: dict[int, Tensor] = {}

    def of(self, row_HTC: Tensor) -> Tensor:
        """What stands there (N x H, T, C)."""
        heads, _, width = row_HTC.shape
        if heads not in self._rows:
            self._rows[heads] = (self._places_NT[:, None] * heads + torch.arange(heads)[:, None]).flatten()
        flat = row_HTC.transpose(0, 1).reshape(-1, width)
        return flat.index_select(0, self._rows[heads]).view(-1, self.count, width)


class _Block(NamedTuple):
    """Some queries of each span of a side.

    Args:
        spans: Of the side.
        first: The first query of each, from its beginning.
        seen: How many keys they see of each, at most.
        places: Theirs in the row.
        hidden_QK: Added to the last products of each query and keys.
        behind_NQ: Which of them stand behind the end of their span; None if none does.
    """

    spans: Sequence[Span]
    first: int
    seen: int
    places: _Places
    hidden_QK: Tensor
    behind_NQ: Tensor | None

    def queries(self, row_HTC: Tensor, *, groups: int) -> Tensor:
        """Their part of a row, queries of one key's head side by side (N x G, R, C)."""
        return self.places.of(row_HTC).view(len(self.spans) * groups, -1, row_HTC.shape[2])

    def hide(self, part_NGRC: Tensor) -> Tensor:
        """Such a part with zeros where no query of the row stands."""
        if self.behind_NQ is not None:
            spans, queries = self.behind_NQ.shape
            each = part_NGRC.view(spans, -1, queries, part_NGRC.shape[2])
            each.masked_fill_(self.behind_NQ[:, None, :, None], 0.0)
        return part_NGRC

    def keys(self, seen_NGKC: Tensor) -> Tensor:
        """The keys, or values, that they see."""
        return seen_NGKC[:, : self.seen]

    def weights(self, query_NGRC: Tensor, key_NGKC: Tensor) -> Tensor:
        """How much each query takes of each key (N x G, R, K)."""
        products_NGRK = torch.bmm(query_NGRC, key_NGKC.mT)
        queries, keys = self.hidden_QK.shape
        products_NGRK.view(-1, queries, self.seen)[..., -keys:] += self.hidden_QK
        return torch.softmax(products_NGRK, dim=-1)

    def put(self, row_HTC: Tensor, part_NGRC: Tensor) -> None:
        """The way back into a row."""
        each = part_NGRC.view(len(self.spans), len(row_HTC), -1, row_HTC.shape[2])
        for span, one_HQC in zip(self.spans, each, strict=True):
            into_HQC = row_HTC[:, span.begin + self.first : span.end][:, : one_HQC.shape[1]]
            into_HQC.copy_(one_HQC[:, : into_HQC.shape[1]])


def side_by_side(spans: Iterable[Span]) -> list[Side]:
    """Lay trees of about one length side by side, and everything else by itself."""
    sides: list[list[Span]] = []
    for span in sorted(spans, key=lambda one: (one.root, _before(one), one.begin - one.end)):
        if sides and _fits(span, sides[-1]):
            sides[-1].append(span)
        else:
            sides.append([span])
    return list(map(Side, sides))


def _fits(span: Span, side: Sequence[Span]) -> bool:
    longest = side[0].end - side[0].begin
    plain = span.mask_QK is None and side[0].mask_QK is None
    alike = plain and (span.root, _before(span)) == (side[0].root, _before(side[0]))
    few = len(side) < SPANS and longest * (len(side) + 1) <= TOKENS
    return alike and few and span.end - span.begin >= LENGTH * longest


def _before(span: Span) -> int:
    """How many keys stand in front of those of its queries, its root left out."""
    return span.last_key - span.first_key - (span.end - span.begin)


def _by_token(row_HTC: Tensor) -> Tensor:
    """The same, all heads of one token side by side, as layers have them."""
    return row_HTC.transpose(0, 1).contiguous().transpose(0, 1)


@cache
def _later() -> Tensor:
    """Minus infinity on the tokens after each of a block (`BLOCK`, `BLOCK`)."""
    return torch.full((BLOCK, BLOCK), -torch.inf, dtype=torch.bfloat16).triu(1)
