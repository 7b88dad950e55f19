"""What the layers need to know of a packed row, made once for all of them.

Letters in tensor names: H heads, T tokens, C head width, K keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from mmmed.models.block_attention import Side
from mmmed.models.packing import Layout, dense_mask, sees

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask
    from transformers.cache_utils import Cache


@dataclass(frozen=True, slots=True)
class Before:
    """What the trees of a row go on from, which was read before it.

    Args:
        cache: Its keys and values, some rows of them.
        rows: From which row each tree goes on.
        places: Which places of that row hold a token.
        tokens: How many these are.
    """

    cache: Cache
    rows: Sequence[int]
    places: Sequence[slice | Tensor]
    tokens: Sequence[int]

    def of(self, layer: int, tree: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer in front of a tree (1, H, K, C)."""
        kept: Any = self.cache.layers[layer]
        row, places = self.rows[tree], self.places[tree]
        return kept.keys[row, :, places].unsqueeze(0), kept.values[row, :, places].unsqueeze(0)


@dataclass(slots=True)
class TreeRow:
    """What the layers need to know of a packed row; made once for all of them.

    Args:
        layout: Of the row.
        rest_masks: Of each tree with branches, which of its tokens those after its trunk see, as a float mask.
        block_mask: For FlexAttention, where that runs.
        layers: How many layers have asked for it.
        sides: Its trees side by side, where they are read in blocks, from the first layer on.
        before: What its trees go on from, if they do; none of them has branches then.
    """

    layout: Layout
    rest_masks: list[Tensor | None]
    block_mask: BlockMask | None
    layers: int = 0
    sides: list[Side] | None = None
    before: Before | None = None


def tree_row(layout: Layout, *, dtype: torch.dtype, before: Before | None = None) -> TreeRow:
    """Make the masks of a packed row that all layers share."""
    if before is not None:
        masks: list[Tensor | None] = [
            _later_mask(tree.end - tree.begin, tokens, dtype=dtype)
            for tree, tokens in zip(layout.trees, before.tokens, strict=True)
        ]
        return TreeRow(layout, masks, None, before=before)
    if layout.ends_T.is_cuda:
        return TreeRow(layout, [], block_mask(layout.ends_T))
    return TreeRow(layout, [_rest_mask(layout, number, dtype=dtype) for number in range(len(layout.trees))], None)


def block_mask(ends_T: Tensor) -> BlockMask:
    """The mask of a row for FlexAttention, which leaves out the blocks in which nobody sees anybody."""
    from torch.nn.attention.flex_attention import create_block_mask

    def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Any:
        return sees(ends_T, query, key)

    length = len(ends_T)
    return create_block_mask(rule, B=None, H=None, Q_LEN=length, KV_LEN=length, device=ends_T.device)


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What a mask adds to the weights; least, but finite, so that a row that sees nothing stays a number."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _rest_mask(layout: Layout, number: int, *, dtype: torch.dtype) -> Tensor | None:
    begin, trunk_end, end = layout.trees[number]
    if trunk_end == end:
        return None
    mask = dense_mask(layout.ends_T[begin:end] - begin)[trunk_end - begin :]
    return added(functional.pad(mask, (layout.root, 0), value=True), dtype)


def _later_mask(tokens: int, before: int, *, dtype: torch.dtype) -> Tensor:
    """What tokens see of those before their tree, which is all, and of their tree."""
    return added(torch.ones(tokens, before + tokens, dtype=torch.bool).tril_(before), dtype)
