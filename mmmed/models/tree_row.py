"""What the layers need to know of a packed row, made once for all of them.

Letters in tensor names: H heads, T tokens, C head width, K keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
        before: What its trees go on from, if they do; none of them has branches then, but all have a mask.
        is_cut: Whether those masks hide more than what is later.
        root_mask: Which of its tokens those of the root see, where it is not all before them.
        narrowed: By the windows that layers have asked for, the row as they read it.
    """

    layout: Layout
    rest_masks: list[Tensor | None]
    block_mask: BlockMask | None
    layers: int = 0
    sides: list[Side] | None = None
    before: Before | None = None
    is_cut: bool = False
    root_mask: Tensor | None = None
    narrowed: dict[int, TreeRow] = field(default_factory=dict)

    def within(self, window: int | None, *, dtype: torch.dtype) -> TreeRow:
        """The row as a layer reads it that looks back over `window` tokens, itself among them; None is all."""
        if window is None:
            return self
        if window not in self.narrowed:
            reaches = int(self.layout.positions_T.max()) < window
            self.narrowed[window] = (
                self if reaches else tree_row(self.layout, dtype=dtype, before=self.before, window=window)
            )
        return self.narrowed[window]


def tree_row(layout: Layout, *, dtype: torch.dtype, before: Before | None = None, window: int | None = None) -> TreeRow:
    """Make the masks of a packed row that all layers share.

    Args:
        layout: Of the row.
        dtype: Of queries and keys.
        before: What its trees go on from.
        window: How many tokens of its conversation each looks back over, itself among them; None is all.
    """
    if before is not None:
        masks: list[Tensor | None] = [
            _later_mask(tree.end - tree.begin, tokens, window=window, dtype=dtype)
            for tree, tokens in zip(layout.trees, before.tokens, strict=True)
        ]
        return TreeRow(layout, masks, None, before=before, is_cut=window is not None)
    if layout.ends_T.is_cuda:
        return TreeRow(layout, [], block_mask(layout, window=window))
    layout = _without_long_trunks(layout, window) if window is not None else layout
    masks = [_rest_mask(layout, number, window=window, dtype=dtype) for number in range(len(layout.trees))]
    is_cut = window is not None and layout.root > window
    root_mask = _later_mask(layout.root, 0, window=window, dtype=dtype) if is_cut else None
    return TreeRow(layout, masks, None, root_mask=root_mask)


def block_mask(layout: Layout, *, window: int | None = None) -> BlockMask:
    """The mask of a row for FlexAttention, which leaves out the blocks in which nobody sees anybody."""
    from torch.nn.attention.flex_attention import create_block_mask

    ends_T, positions_T = layout.ends_T, layout.positions_T

    def rule(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Any:
        seen = sees(ends_T, query, key)
        return seen if window is None else seen & (positions_T[query] - positions_T[key] < window)

    length = len(ends_T)
    return create_block_mask(rule, B=None, H=None, Q_LEN=length, KV_LEN=length, device=ends_T.device)


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What a mask adds to the weights; least, but finite, so that a row that sees nothing stays a number."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _without_long_trunks(layout: Layout, window: int) -> Layout:
    """Trees that reach beyond a window have no trunk, which would be read without a mask."""
    trees = [
        tree._replace(trunk_end=tree.begin) if int(layout.positions_T[tree.begin : tree.end].max()) >= window else tree
        for tree in layout.trees
    ]
    return replace(layout, trees=tuple(trees))


def _rest_mask(layout: Layout, number: int, *, window: int | None, dtype: torch.dtype) -> Tensor | None:
    begin, trunk_end, end = layout.trees[number]
    if trunk_end == end:
        return None
    mask = dense_mask(layout.ends_T[begin:end] - begin)[trunk_end - begin :]
    mask = functional.pad(mask, (layout.root, 0), value=True)
    if window is not None:
        places_T = layout.positions_T
        places_K = torch.cat([places_T[: layout.root], places_T[begin:end]])
        mask &= places_T[trunk_end:end, None] - places_K < window
    return added(mask, dtype)


def _later_mask(tokens: int, before: int, *, window: int | None, dtype: torch.dtype) -> Tensor:
    """What tokens see of those before their tree, which is all or those in the window, and of their tree."""
    mask = torch.ones(tokens, before + tokens, dtype=torch.bool).tril_(before)
    return added(mask if window is None else mask.triu_(before + 1 - window), dtype)
