"""Attention within packed rows, put into any decoder of transformers whose attention can be exchanged.

On a CPU, a row is read tree by tree (`tree_reading.py`). On a GPU, FlexAttention leaves out the blocks that nobody
sees.

Letters in tensor names: B batch, H heads, T tokens, C head width, K keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.block_attention import Span, block_attention, is_faster, side_by_side
from mmmed.models.packing import Layout, dense_mask
from mmmed.models.shared_attention import is_shared, shared_attention
from mmmed.models.tree_reading import by_tree, is_halved, read_on
from mmmed.models.tree_row import Before, TreeRow, added, tree_row
from mmmed.models.windows import kinds_of, window_of

NAME = "mmmed_tree"
"""Of this attention among those of transformers."""
LONG = 64
"""Queries of a row from which on blocks are the faster attention."""


def tree_arguments(model: Any, layout: Layout, *, dtype: torch.dtype, before: Before | None = None) -> dict[str, Any]:
    """What to call a decoder with, so that it reads a packed row.

    Args:
        model: A causal model of transformers. From here on it keeps an attention that reads packed rows in the way
            described above, and all else as transformers' own `sdpa`.
        layout: Of the row.
        dtype: Of queries and keys.
        before: What its trees go on from, on a CPU.

    Raises:
        ConfigError: The model's layers look otherwise.
    """
    _check_kinds(model.config)
    chosen = model.config._attn_implementation
    if chosen == "eager" and before is None:
        _check_reach(model.config, int(layout.positions_T.max()) + 1)
        mask = dense_mask(layout.ends_T)
        return {"attention_mask": added(mask, dtype)[None, None]}
    if not model._supports_attention_backend or chosen not in ("sdpa", NAME):
        raise ConfigError(
            f"{model.config.model_type} with attention {chosen!r} cannot read packed conversations; "
            "set attention: eager of the language model, or packing: null of the data"
        )
    use_tree_attention(model)
    return {"attention_mask": _prepared_mask(layout), "tree": tree_row(layout, dtype=dtype, before=before)}


def cache_arguments(model: Any, cache: Any) -> dict[str, Any]:
    """What to call a decoder with, so that it reads once the places of a cache that are `alike` in all rows."""
    alike = getattr(cache, "alike", 0)
    return {"alike": alike} if alike and model.config._attn_implementation == NAME else {}


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
        ConfigError: None of them did, so that every token has seen every other, or all have looked back over everything
            where some should not.
    """
    row = arguments.get("tree")
    if row is not None and (not row.layers or window_of(config) not in (None, *row.narrowed)):
        raise ConfigError(
            f"{config.model_type} does not hand its layers what packed conversations need; "
            "set packing: null of the data"
        )


def _check_kinds(config: Any) -> None:
    """See that no layer keeps a state instead of looking back."""
    if odd := kinds_of(config) - {"full_attention", "sliding_attention"}:
        raise ConfigError(
            f"{config.model_type} has {sorted(odd)[0]} layers, which cannot read packed conversations; "
            "set packing: null of the data"
        )


def _check_reach(config: Any, longest: int) -> None:
    """See that one mask does for all layers: each looks back over a whole conversation."""
    window = window_of(config)
    if window is not None and window < longest:
        raise ConfigError(
            f"{config.model_type} looks back {window} tokens, fewer than the {longest} of a conversation, which eager "
            "attention cannot in packed ones; leave attention out, or set packing: null of the data"
        )


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
    tree = tree.within(settings.get("sliding_window"), dtype=query_BHTC.dtype)
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
    alike: int = 0,
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of padded rows: transformers' `sdpa`, or, where blocks or what rows share are faster, those."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    odd = [*_odd(settings), *(name for name in ("is_causal", "output_attentions") if settings.get(name) is not None)]
    rows, _, tokens, _ = query_BHTC.shape
    scale = scaling or query_BHTC.shape[-1] ** -0.5
    if not odd and not dropout and is_shared(query_BHTC, alike):
        added_B11K = added(mask_B1TK, query_BHTC.dtype) if mask_B1TK is not None else None
        return shared_attention(query_BHTC, key_BHTC, value_BHTC, added_B11K, alike=alike, scaling=scale), None
    fits = mask_B1TK.shape[:2] == (rows, 1) if mask_B1TK is not None else key_BHTC.shape[2] == tokens
    if odd or not fits or tokens < LONG or not is_faster() or not is_halved(query_BHTC, dropout=dropout):
        return sdpa_attention_forward(
            module, query_BHTC, key_BHTC, value_BHTC, mask_B1TK, dropout=dropout, scaling=scaling, **settings
        )
    masks_BTK = added(mask_B1TK[:, 0], torch.bfloat16) if mask_B1TK is not None else [None] * rows
    keys = key_BHTC.shape[2]
    spans = [
        Span(row * tokens, (row + 1) * tokens, row * keys, (row + 1) * keys, mask) for row, mask in enumerate(masks_BTK)
    ]
    # All rows end to end, which copies nothing where the heads of one token lie side by side.
    query, key, value = (
        one.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None] for one in (query_BHTC, key_BHTC, value_BHTC)
    )
    read_1HTC = block_attention(query, key, value, side_by_side(spans), scaling=scale)
    return read_1HTC.transpose(1, 2).view(rows, tokens, *read_1HTC.shape[1::2]), None


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
