"""How the trees of a packed row are read on a CPU: each by itself, or beside others of its length.

A trunk is read with a causal kernel, and what branches off it with a mask of its own rows alone. This beats one mask
over a whole row by two to four times (docs/performance.md), because masked kernels compute what they then throw away.

Letters in tensor names: B batch, H heads, T tokens, C head width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from mmmed.models.block_attention import (
    Side,
    Span,
    are_many,
    block_attention,
    has_tiles,
    is_faster,
    side_by_side,
)
from mmmed.models.tree_row import Before, TreeRow


def by_tree(
    query_BHTC: Tensor,
    key_BHTC: Tensor,
    value_BHTC: Tensor,
    tree: TreeRow,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> Tensor:
    """Read a row tree by tree: each trunk causally, then all that branches off it under a mask (B, H, T, C).

    The root of the row is in front of each tree.
    """
    scale = scaling or query_BHTC.shape[-1] ** -0.5
    if sides := _sides(query_BHTC, tree, dropout=dropout):
        return block_attention(query_BHTC, key_BHTC, value_BHTC, sides, scaling=scale)
    # Split, not sliced: the gradient of a slice is a whole row of zeros around it.
    root = tree.layout.root
    lengths = [root, *(end - begin for begin, _, end in tree.layout.trees)]
    of_root, *rows = zip(
        *(row.split_with_sizes(lengths, dim=2) for row in (query_BHTC, key_BHTC, value_BHTC)), strict=True
    )
    attend = partial(_attend, dropout=dropout, scaling=scale)
    read = []
    if root:
        query, key, value = of_root
        read.append(attend(query, key, value, tree.root_mask))
    for (begin, trunk_end, _), mask, row in zip(tree.layout.trees, tree.rest_masks, rows, strict=True):
        query, key, value = (torch.cat(two, dim=2) for two in zip(of_root, row, strict=True)) if root else row
        trunk = root + trunk_end - begin
        if mask is None:
            read.append(attend(query, key, value)[:, :, root:])
            continue
        if trunk > root:
            read.append(attend(query[:, :, :trunk], key[:, :, :trunk], value[:, :, :trunk])[:, :, root:])
        read.append(attend(query[:, :, trunk:], key, value, mask))
    return _end_to_end(read)


def read_on(
    query_1HTC: Tensor,
    key_1HTC: Tensor,
    value_1HTC: Tensor,
    tree: TreeRow,
    before: Before,
    *,
    layer: int,
    scaling: float | None = None,
) -> Tensor:
    """Read a row whose trees go on from what was read before it (1, H, T, C)."""
    scale = scaling or query_1HTC.shape[-1] ** -0.5
    places = [slice(begin, end) for begin, _, end in tree.layout.trees]

    def seen(number: int) -> tuple[Tensor, Tensor]:
        keys, values = before.of(layer, number)
        own = (slice(None), slice(None), places[number])
        return torch.cat((keys, key_1HTC[own]), dim=2), torch.cat((values, value_1HTC[own]), dim=2)

    if sides := _sides(query_1HTC, tree, dropout=0.0):
        keys, values = (torch.cat(one, dim=2) for one in zip(*map(seen, range(len(places))), strict=True))
        return block_attention(query_1HTC, keys, values, sides, scaling=scale)
    read = [
        _attend(query_1HTC[:, :, place], *seen(number), mask, dropout=0.0, scaling=scale)
        for number, (place, mask) in enumerate(zip(places, tree.rest_masks, strict=True))
    ]
    return _end_to_end(read)


def is_halved(query_BHTC: Tensor, *, dropout: float) -> bool:
    """Whether attention is in bfloat16 on a CPU, and nothing of it left out."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query_BHTC.dtype
    return kind == torch.bfloat16 and query_BHTC.device.type == "cpu" and not dropout


def _end_to_end(read: Sequence[Tensor]) -> Tensor:
    """What trees have read as one row (B, H, T, C), all heads of one token side by side."""
    return torch.cat([one.transpose(1, 2) for one in read], dim=1).transpose(1, 2)


def _sides(query_BHTC: Tensor, tree: TreeRow, *, dropout: float) -> list[Side] | None:
    """The trees of a row side by side, where blocks are the faster attention."""
    learns = torch.is_grad_enabled() and query_BHTC.requires_grad
    if not is_halved(query_BHTC, dropout=dropout) or not (is_faster() or (has_tiles() and learns)):
        return None
    tree.sides = tree.sides or side_by_side(_spans(tree) if tree.before is None else _spans_behind(tree, tree.before))
    return tree.sides if is_faster() or are_many(tree.sides) else None


def _spans(tree: TreeRow) -> Iterator[Span]:
    """The same for blocks."""
    root = tree.layout.root
    if root:
        yield Span(0, root, 0, root, tree.root_mask)
    for (begin, trunk_end, end), mask in zip(tree.layout.trees, tree.rest_masks, strict=True):
        if trunk_end > begin:
            yield Span(begin, trunk_end, begin, trunk_end, None, root)
        if mask is not None:
            yield Span(trunk_end, end, begin, end, mask, root)


def _spans_behind(tree: TreeRow, before: Before) -> Iterator[Span]:
    """Those of trees with what they go on from in front of each."""
    key = 0
    for (begin, _, end), tokens, mask in zip(tree.layout.trees, before.tokens, tree.rest_masks, strict=True):
        last_key = key + tokens + end - begin
        yield Span(begin, end, key, last_key, mask if tree.is_cut else None)
        key = last_key


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, dropout: float, scaling: float
) -> Tensor:
    """Torch's attention to the tokens before each, or by a mask."""
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask.to(query.dtype) if mask is not None else None,
        is_causal=mask is None,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
