"""Keys and values of what was read, and how others go on from them without a copy that stays.

Shape letters: R rows that go on, G rows of a trunk, L tokens of a trunk, H key-value heads, C width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from mmmed.models.cross_attention import VisualCache
from mmmed.models.tree_row import Before
from mmmed.models.vlm import VisionLanguageModel


@dataclass(frozen=True, slots=True)
class Trunk:
    """Keys and values of rows that others go on from, and which of their places hold a token."""

    cache: Cache
    seen_GL: Tensor

    @property
    def length(self) -> int:
        return self.seen_GL.shape[1]

    def before(self, rows: Sequence[int]) -> Before:
        """Some of its rows, as trees of a packed row go on from them."""
        tokens_G = self.seen_GL.sum(1).tolist()
        # Only what goes on behind shorter rows than others has holes.
        places = [
            slice(tokens) if bool(seen_L[:tokens].all()) else seen_L.nonzero()[:, 0]
            for tokens, seen_L in zip(tokens_G, self.seen_GL, strict=True)
        ]
        return Before(self.cache, rows, [places[row] for row in rows], [tokens_G[row] for row in rows])

    def branch_off(self, model: VisionLanguageModel, of_R: Tensor, *, keep: bool) -> Cache:
        """A cache for rows that go on from some of its rows, which stay as they are for others."""
        cache = model.new_cache()
        layers: list[Any] = self.cache.layers
        cache.layers = [_BranchLayer(layer, of_R, keep=keep) for layer in layers]
        if isinstance(cache, VisualCache) and isinstance(self.cache, VisualCache) and self.cache.visual is not None:
            cache.visual = self.cache.visual.select(of_R)
        return cache


class _BranchLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of the trunk's rows (G, H, L, C), copied once when a layer is read, and let go unless kept."""

    def __init__(self, trunk: Any, of_R: Tensor, *, keep: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = trunk.keys, trunk.values
        self.dtype, self.device = trunk.keys.dtype, trunk.keys.device
        self.is_initialized = True
        self._of_R = of_R
        self._keep = keep

    def update(
        self, key_states: Tensor, value_states: Tensor, *arguments: Any, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        assert self.keys is not None and self.values is not None, "a trunk was read"
        keys = torch.cat([_rows(self.keys, self._of_R), key_states], dim=-2)
        values = torch.cat([_rows(self.values, self._of_R), value_states], dim=-2)
        if self._keep:
            self.keys, self.values = keys, values
        return keys, values


def _rows(states_GHLC: Tensor, of_R: Tensor) -> Tensor:
    if len(states_GHLC) == 1:
        return states_GHLC.expand(len(of_R), -1, -1, -1)
    return states_GHLC[of_R]
