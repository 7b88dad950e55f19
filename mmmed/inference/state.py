"""What is kept of questions while their answers are written: keys and values side by side, with room for more.

Shape letters: R rows, L tokens read, M tokens at most, D language width, H key-value heads, C width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from mmmed.data.collate import pad
from mmmed.inference.album import Album
from mmmed.inference.forest import shared
from mmmed.inference.reading import Tail, read_forest
from mmmed.inference.trunk import Trunk
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Questions that are read: their last hidden states, and what the next token is read after.

    Args:
        hidden_RD: Of the token read last.
        cache: Keys and values of `length` places.
        seen_RM: Which places hold a token; those that are still to be written count as held.
        positions_R: Of the token read next.
        length: Places that hold what was read, or nothing.
    """

    hidden_RD: Tensor
    cache: Cache
    seen_RM: Tensor
    positions_R: Tensor
    length: int

    @property
    def room(self) -> int:
        """Places in all."""
        return self.seen_RM.shape[1]

    def only(self, rows: list[int]) -> State:
        """What is kept of some rows; the state they are taken from is of no use any more."""
        kept = torch.tensor(rows, device=self.seen_RM.device)
        self.cache.batch_select_indices(kept)
        return replace(
            self, hidden_RD=self.hidden_RD[kept], seen_RM=self.seen_RM[kept], positions_R=self.positions_R[kept]
        )

    def after(self, hidden_RD: Tensor) -> State:
        """What is kept when one token more of each row was read."""
        return replace(self, hidden_RD=hidden_RD, positions_R=self.positions_R + 1, length=self.length + 1)


def is_read_apart(model: VisionLanguageModel) -> bool:
    """Whether more than keys and values is to be kept of a question, so that nothing of it is shared or moved."""
    return model.cross_attention is not None or getattr(model.language, "soft_prompt", None) is not None


def opening(
    model: VisionLanguageModel,
    processor: Processor,
    album: Album,
    examples: Sequence[Example],
    sequences: Sequence[tuple[int, ...]],
    *,
    room: int,
) -> State:
    """Read questions, what they share once.

    Args:
        model: In evaluation mode.
        processor: Of the model.
        album: Their images.
        examples: The questions.
        sequences: The tokens of each.
        room: Tokens that will be written after each.

    Raises:
        RecordError: A question cannot be read.
    """
    if is_read_apart(model):
        return _opening_apart(model, processor, examples, room=room)
    different = list(dict.fromkeys(sequences))
    tails: dict[tuple[int, ...], Tail] = {}
    for block in read_forest(model, album, different, keep_tails=True, image_id=processor.image_id):
        for tail in block:
            for index in tail.node.sequences:
                if tail.node.end == len(different[index]):
                    tails[different[index]] = tail
    ends = [tails[sequence] for sequence in sequences]
    trunks = [tail.trunk for tail in ends if tail.trunk is not None]
    assert len(trunks) == len(ends), "tails are kept"
    rows_of: dict[int, list[int]] = {}
    for place, trunk in enumerate(trunks):
        rows_of.setdefault(id(trunk), []).append(place)
    parts = [
        _Part.of_trunk(trunks[places[0]], [ends[place].row for place in places], places) for places in rows_of.values()
    ]
    device = trunks[0].seen_GL.device
    return _laid_out(
        parts,
        room=room,
        alike=shared(min(sequences), max(sequences)),
        hidden_RD=torch.stack([tail.hidden_SD[-1] for tail in ends]),
        positions_R=torch.tensor([len(sequence) for sequence in sequences], device=device),
    )


def _opening_apart(
    model: VisionLanguageModel, processor: Processor, examples: Sequence[Example], *, room: int
) -> State:
    inputs = [processor.question(example) for example in examples]
    batch = pad(inputs, image_id=processor.image_id, left=True).to(next(model.parameters()).device)
    positions_RL = (batch.attention_BT.cumsum(1) - 1).clamp(min=0)
    cache = model.new_cache()
    hidden_RLD = model.read(batch, positions_BT=positions_RL, cache=cache)
    seen_RM = torch.cat([batch.attention_BT, batch.attention_BT.new_ones(len(inputs), room)], dim=1)
    return State(
        hidden_RD=hidden_RLD[:, -1],
        cache=cache,
        seen_RM=seen_RM,
        positions_R=positions_RL[:, -1] + 1,
        length=batch.ids_BT.shape[1],
    )


def merged(states: Sequence[State], *, room: int) -> State:
    """Rows of several states in one, the holes that others left between their tokens closed."""
    parts, start = [], 0
    for state in states:
        count = len(state.positions_R)
        parts.append(_Part.of_state(state, list(range(start, start + count))))
        start += count
    return _laid_out(
        parts,
        room=room,
        hidden_RD=torch.cat([state.hidden_RD for state in states]),
        positions_R=torch.cat([state.positions_R for state in states]),
    )


class _Layer(NamedTuple):
    keys_RHLC: Tensor
    values_RHLC: Tensor


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that come from one place, and the places that they go to."""

    layers: list[Any]
    rows: list[int]
    seen_RL: Tensor
    places: list[int]
    order_RL: Tensor | None = None
    """Which of its tokens stand where; None leaves them where they are."""

    @classmethod
    def of_trunk(cls, trunk: Trunk, rows: list[int], places: list[int]) -> _Part:
        return cls(list(trunk.cache.layers), rows, trunk.seen_GL[rows], places)

    @classmethod
    def of_state(cls, state: State, places: list[int]) -> _Part:
        seen_RL = state.seen_RM[:, : state.length]
        longest = int(seen_RL.sum(1).max())
        order_RL = seen_RL.argsort(dim=1, descending=True, stable=True)[:, :longest]
        rows = list(range(len(places)))
        return cls(list(state.cache.layers), rows, seen_RL.gather(1, order_RL), places, order_RL)

    def layer(self, number: int) -> _Layer:
        keys, values = self.layers[number].keys[self.rows], self.layers[number].values[self.rows]
        if self.order_RL is None:
            return _Layer(keys, values)
        index = self.order_RL[:, None, :, None].expand(-1, keys.shape[1], -1, -1)
        return _Layer(
            keys.gather(2, index.expand(-1, -1, -1, keys.shape[3])),
            values.gather(2, index.expand(-1, -1, -1, values.shape[3])),
        )


def _laid_out(parts: Sequence[_Part], *, room: int, hidden_RD: Tensor, positions_R: Tensor, alike: int = 0) -> State:
    """Keys and values of all parts side by side, with room for what will be written; they begin with what is alike."""
    length = max(part.seen_RL.shape[1] for part in parts)
    seen_RM = torch.zeros(len(positions_R), length + room, dtype=torch.long, device=hidden_RD.device)
    seen_RM[:, length:] = 1
    for part in parts:
        seen_RM[part.places, : part.seen_RL.shape[1]] = part.seen_RL
    cache = _RoomyCache(alike)
    cache.layers = [
        _RoomyLayer([(part.layer(number), part.places) for part in parts], length=length, room=room)
        for number in range(len(parts[0].layers))
    ]
    return State(hidden_RD=hidden_RD, cache=cache, seen_RM=seen_RM, positions_R=positions_R, length=length)


class _RoomyCache(DynamicCache):
    """Keys and values whose first places are the same in all rows, as many as are `alike`."""

    def __init__(self, alike: int) -> None:
        super().__init__()
        self.alike = alike


class _RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values with room for as many tokens as will be written, so that no step copies what was there."""

    def __init__(self, parts: Sequence[tuple[_Layer, list[int]]], *, length: int, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        like = parts[0][0].keys_RHLC
        rows = sum(len(places) for _, places in parts)
        self._keys_RHMC = like.new_zeros(rows, like.shape[1], length + room, like.shape[3])
        values = parts[0][0].values_RHLC
        self._values_RHMC = values.new_zeros(rows, values.shape[1], length + room, values.shape[3])
        for part, places in parts:
            self._keys_RHMC[places, :, : part.keys_RHLC.shape[2]] = part.keys_RHLC
            self._values_RHMC[places, :, : part.values_RHLC.shape[2]] = part.values_RHLC
        self.dtype, self.device = like.dtype, like.device
        self.is_initialized = True
        self._show(length)

    def update(
        self, key_states: Tensor, value_states: Tensor, *arguments: Any, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        end = self._length + key_states.shape[-2]
        self._keys_RHMC[:, :, self._length : end] = key_states
        self._values_RHMC[:, :, self._length : end] = value_states
        self._show(end)
        return self._keys_RHMC[:, :, :end], self._values_RHMC[:, :, :end]

    def batch_select_indices(self, indices: Tensor) -> None:
        self._keys_RHMC, self._values_RHMC = self._keys_RHMC[indices], self._values_RHMC[indices]
        self._show(self._length)

    def _show(self, length: int) -> None:
        self._length = length
        self.keys, self.values = self._keys_RHMC[:, :, :length], self._values_RHMC[:, :, :length]
