"""Attention within packed rows, put into any decoder of transformers whose attention can be exchanged.

On a CPU, each tree is read by itself, or beside others of its length: its trunk with a causal kernel, and what branches
off with a mask of its own rows alone. Measured there, this beats one mask over a whole row by two to four times
(docs/performance.md), because masked kernels compute what they then throw away. On a GPU, FlexAttention leaves out the
blocks that nobody sees.

Letters in tensor names: B batch, H heads, T tokens, C head width, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmmed.errors import ConfigError
from mmmed.models.block_attention import (
    Side,
    Span,
    are_many,
    block_attention,
    has_tiles,
    is_faster,
    side_by_side,
)
from mmmed.models.packing import Layout, dense_mask, sees

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask
    from transformers.cache_utils import Cache

NAME = "mmmed_tree"
"""Of this attention among those of transformers."""
LONG = 64
"""Queries of a row from which on blocks are the faster attention."""


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


def tree_arguments(model: Any, layout: Layout, *, dtype: torch.dtype, before: Before | None = None) -> dict[str, Any]:
    """What to call a decoder with, so that it reads a packed row.

    Args:
        model: A causal model of transformers. From here on it keeps an attention that reads packed rows in the way
            described above, and all else as transformers' own `sdpa`.
        layout: Of the row.
        dtype: Of queries and keys.
        before: What its trees go on from, on a CPU.

    Raises:
        ConfigError: The model's layers look otherwise, or not as far back as the conversations reach.
    """
    longest = int(layout.positions_T.max()) + 1
    check_reach(model.config, longest)
    chosen = model.config._attn_implementation
    if chosen == "eager" and before is None:
        mask = dense_mask(layout.ends_T)
        return {"attention_mask": _added(mask, dtype)[None, None]}
    if not model._supports_attention_backend or chosen not in ("sdpa", NAME):
        raise ConfigError(
            f"{model.config.model_type} with attention {chosen!r} cannot read packed conversations; "
            "set attention: eager of the language model, or packing: null of the data"
        )
    use_tree_attention(model)
    return {"attention_mask": _prepared_mask(layout), "tree": tree_row(layout, dtype=dtype, before=before)}


def use_tree_attention(model: Any) -> None:
    """Put this attention into a model of transformers that has its `sdpa`."""
    if model.config._attn_implementation == "sdpa" and model._supports_attention_backend:
        _register()
        model.set_attn_implementation(NAME)


def keep_from_compiling() -> None:
    """Have layers that are compiled call this attention as it is; FlexAttention compiles itself."""
    from transformers import AttentionInterface

    _register()
    AttentionInterface.register(NAME, torch.compiler.disable(tree_attention))  # type: ignore[no-untyped-call]


def check_read_as_tree(config: Any, arguments: Mapping[str, Any]) -> None:
    """See, after a pass, that the layers have used what `tree_arguments` gave.

    Raises:
        ConfigError: None of them did, so that every token has seen every other.
    """
    row = arguments.get("tree")
    if row is not None and not row.layers:
        raise ConfigError(
            f"{config.model_type} does not hand its layers what packed conversations need; "
            "set packing: null of the data"
        )


def check_reach(config: Any, longest: int) -> None:
    """See that every layer looks back over a whole conversation.

    Raises:
        ConfigError: Some layers keep a state instead of looking back, or look less far.
    """
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if odd := kinds - {"full_attention", "sliding_attention"}:
        raise ConfigError(
            f"{config.model_type} has {sorted(odd)[0]} layers, which cannot read packed conversations; "
            "set packing: null of the data"
        )
    window = getattr(config, "sliding_window", None)
    slides = "sliding_attention" in kinds or getattr(config, "layer_types", None) is None
    if getattr(config, "use_sliding_window", True) and slides and window is not None and window < longest:
        raise ConfigError(
            f"{config.model_type} looks back {window} tokens, fewer than the {longest} of a conversation; "
            "packed conversations need a window that holds them: shorten them, or set packing: null of the data"
        )


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


def tree_attention(
    module: nn.Module,
    query_BHTC: Tensor,
    key_BHTC: Tensor,
    value_BHTC: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    tree: TreeRow | None = None,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of one layer, in the form that transformers asks for; without a `tree` it is `plain_attention`.

    Returns:
        What is read (B, T, H, C), and no weights.
    """
    if tree is None:
        return plain_attention(
            module, query_BHTC, key_BHTC, value_BHTC, attention_mask, dropout=dropout, scaling=scaling, **settings
        )
    _check_plain(settings)
    tree.layers += 1
    if tree.block_mask is not None:
        from transformers.integrations.flex_attention import flex_attention_forward

        return flex_attention_forward(
            module, query_BHTC, key_BHTC, value_BHTC, tree.block_mask, scaling=scaling, dropout=dropout
        )
    if tree.before is not None:
        number: Any = module.layer_idx
        read = read_on(query_BHTC, key_BHTC, value_BHTC, tree, tree.before, layer=number, scaling=scaling)
    else:
        read = by_tree(query_BHTC, key_BHTC, value_BHTC, tree, dropout=dropout, scaling=scaling)
    return read.transpose(1, 2).contiguous(), None


def plain_attention(
    module: nn.Module,
    query_BHTC: Tensor,
    key_BHTC: Tensor,
    value_BHTC: Tensor,
    mask_B1TK: Tensor | None,
    *,
    dropout: float,
    scaling: float | None,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of padded rows: transformers' `sdpa`, or, where blocks are faster, those."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    odd = [*_odd(settings), *(name for name in ("is_causal", "output_attentions") if settings.get(name) is not None)]
    rows, _, tokens, _ = query_BHTC.shape
    fits = mask_B1TK.shape[:2] == (rows, 1) if mask_B1TK is not None else key_BHTC.shape[2] == tokens
    if odd or not fits or tokens < LONG or not is_faster() or not _is_halved(query_BHTC, dropout=dropout):
        return sdpa_attention_forward(
            module, query_BHTC, key_BHTC, value_BHTC, mask_B1TK, dropout=dropout, scaling=scaling, **settings
        )
    masks_BTK = _added(mask_B1TK[:, 0], torch.bfloat16) if mask_B1TK is not None else [None] * rows
    keys = key_BHTC.shape[2]
    spans = [
        Span(row * tokens, (row + 1) * tokens, row * keys, (row + 1) * keys, mask) for row, mask in enumerate(masks_BTK)
    ]
    # All rows end to end, which copies nothing where the heads of one token lie side by side.
    query, key, value = (
        one.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None] for one in (query_BHTC, key_BHTC, value_BHTC)
    )
    read_1HTC = block_attention(query, key, value, side_by_side(spans), scaling=scaling or query_BHTC.shape[-1] ** -0.5)
    return read_1HTC.transpose(1, 2).view(rows, tokens, *read_1HTC.shape[1::2]), None


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
    read = [attend(*of_root)] if root else []
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
    read = []
    for number, ((begin, _, end), mask) in enumerate(zip(tree.layout.trees, tree.rest_masks, strict=True)):
        query, key, value = (row[:, :, begin:end] for row in (query_1HTC, key_1HTC, value_1HTC))
        keys, values = (torch.cat(two, dim=2) for two in zip(before.of(layer, number), (key, value), strict=True))
        read.append(_attend(query, keys, values, mask, dropout=0.0, scaling=scale))
    return _end_to_end(read)


def _end_to_end(read: Sequence[Tensor]) -> Tensor:
    """What trees have read as one row (B, H, T, C), all heads of one token side by side."""
    return torch.cat([one.transpose(1, 2) for one in read], dim=1).transpose(1, 2)


def _sides(query_BHTC: Tensor, tree: TreeRow, *, dropout: float) -> list[Side] | None:
    """The trees of a row side by side, where blocks are the faster attention."""
    learns = torch.is_grad_enabled() and query_BHTC.requires_grad
    if not _is_halved(query_BHTC, dropout=dropout) or not (is_faster() or (has_tiles() and learns)):
        return None
    tree.sides = tree.sides or side_by_side(_spans(tree))
    return tree.sides if is_faster() or are_many(tree.sides) else None


def _spans(tree: TreeRow) -> Iterator[Span]:
    """The same for blocks."""
    root = tree.layout.root
    if root:
        yield Span(0, root, 0, root, None)
    for (begin, trunk_end, end), mask in zip(tree.layout.trees, tree.rest_masks, strict=True):
        if trunk_end > begin:
            yield Span(begin, trunk_end, begin, trunk_end, None, root)
        if mask is not None:
            yield Span(trunk_end, end, begin, end, mask, root)


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


def _is_halved(query_BHTC: Tensor, *, dropout: float) -> bool:
    """Whether attention is in bfloat16 on a CPU, and nothing of it left out."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query_BHTC.dtype
    return kind == torch.bfloat16 and query_BHTC.device.type == "cpu" and not dropout


def _rest_mask(layout: Layout, number: int, *, dtype: torch.dtype) -> Tensor | None:
    begin, trunk_end, end = layout.trees[number]
    if trunk_end == end:
        return None
    mask = dense_mask(layout.ends_T[begin:end] - begin)[trunk_end - begin :]
    return _added(functional.pad(mask, (layout.root, 0), value=True), dtype)


def _later_mask(tokens: int, before: int, *, dtype: torch.dtype) -> Tensor:
    """What tokens see of those before their tree, which is all, and of their tree."""
    return _added(torch.ones(tokens, before + tokens, dtype=torch.bool).tril_(before), dtype)


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What a mask adds to the weights; least, but finite, so that a row that sees nothing stays a number."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _prepared_mask(layout: Layout) -> Tensor:
    """What tells transformers that the mask is made already; it is read by nobody."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=layout.ends_T.device)


def _check_plain(settings: Mapping[str, Any]) -> None:
    if odd := _odd(settings):
        raise ConfigError(
            f"the language model's attention has {odd[0]}, which packed conversations cannot keep; "
            "set packing: null of the data"
        )


def _odd(settings: Mapping[str, Any]) -> list[str]:
    return [name for name in ("softcap", "s_aux", "position_bias") if settings.get(name) is not None]


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
