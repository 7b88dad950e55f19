"""Layers that look back over a window of tokens: how far, and what they see where padding stands between tokens.

Transformers counts a window over the places of a row. Where questions of unlike length are read side by side and gone
on from, padding stands between the tokens of the shorter ones, and would use the window up.

Letters in tensor names: B batch, T tokens that are read, K places of keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmmed.models.tree_row import added


def kinds_of(config: Any) -> set[str]:
    """How the layers of a model look back, by transformers' names."""
    return set(getattr(config, "layer_types", None) or ["full_attention"])


def window_of(config: Any) -> int | None:
    """How many tokens those layers look back over, each itself among them, that do not look back over all."""
    slides = "sliding_attention" in kinds_of(config) or getattr(config, "layer_types", None) is None
    window: int | None = getattr(config, "sliding_window", None)
    return window if slides and getattr(config, "use_sliding_window", True) else None


def in_window(config: Any, attention_BK: Tensor, positions_BT: Tensor, *, dtype: torch.dtype) -> Any:
    """What to give a model as its attention mask, so that its windows are counted over tokens.

    Args:
        config: Of the model.
        attention_BK: 1 on tokens (those in the cache first) and 0 on padding.
        positions_BT: Place of each token that is read in its sequence.
        dtype: Of what eager attention adds to its weights.

    Returns:
        The mask as it is, where transformers reads it right; else who sees whom, for each kind of layers.
    """
    window = window_of(config)
    leaves_padding_out = config._attn_implementation.startswith("flash")
    if window is None or leaves_padding_out or attention_BK.shape[1] <= window or not _has_holes(attention_BK):
        return attention_BK
    places_BK = attention_BK.cumsum(1) - 1
    later = attention_BK.shape[1] - positions_BT.shape[1]
    seen_BTK = attention_BK.bool()[:, None].repeat(1, positions_BT.shape[1], 1).tril_(later)
    near_BTK = seen_BTK & (positions_BT[:, :, None] - places_BK[:, None] < window)
    is_eager = config._attn_implementation == "eager"
    full, sliding = (added(one, dtype) if is_eager else one for one in (seen_BTK[:, None], near_BTK[:, None]))
    if getattr(config, "layer_types", None) is None:
        return sliding
    return {"full_attention": full, "sliding_attention": sliding}


def _has_holes(attention_BK: Tensor) -> bool:
    """Whether padding stands between tokens of a row."""
    begins_B = (attention_BK.diff(dim=1, prepend=torch.zeros_like(attention_BK[:, :1])) == 1).sum(1)
    return bool((begins_B > 1).any())
