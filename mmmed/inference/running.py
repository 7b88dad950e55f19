"""Answers that are written side by side, a token each a step; others may join between two steps, and some leave.

A step costs little more for many answers than for one, so that whoever serves many people lets them join (continuous
batching; Source: Yu et al. 2022, Orca, section 3). Whoever has a list of questions writes it batch by batch
(`generation.generate`). Either way an answer depends on nobody else in the batch.

Shape letters: R rows, L tokens read, M tokens at most, D language width, V vocabulary, H key-value heads, C width
of a head.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from mmmed.data.collate import pad
from mmmed.errors import ConfigError
from mmmed.inference.reading import Album, Tail, Trunk, read_forest
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How an answer is written.

    Args:
        max_new_tokens: Longest answer, in tokens.
        stop: Texts that end an answer, and are no part of it, beside the tokenizer's end of sequence.
        temperature: 0 takes the likeliest token; above it, tokens are drawn from the model's distribution at it.
        seed: Changes what is drawn.

    Raises:
        ConfigError: No token may be written, the temperature is below 0, or a stop is empty.
    """

    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; expected 1 or more")
        if self.temperature < 0:
            raise ConfigError(f"temperature is {self.temperature}; expected 0 for the likeliest answer, or more")
        if "" in self.stop:
            raise ConfigError("an empty stop ends every answer before it begins; drop it")


@dataclass(slots=True, eq=False)
class Row:
    """One answer under way.

    Args:
        example: The question.
        sequence: Its tokens, of `Album.sequence`.
        decoding: How it is written.
        stream: Of the numbers that tokens are drawn with; None takes the likeliest token.
        written: Tokens so far.
        log_likelihood: Of those tokens under the model, summed.
    """

    example: Example
    sequence: tuple[int, ...]
    decoding: Decoding
    stream: torch.Generator | None = None
    written: list[int] = field(default_factory=list)
    log_likelihood: float = 0.0

    @property
    def left(self) -> int:
        """Tokens that may still be written."""
        return self.decoding.max_new_tokens - len(self.written)


class RunningBatch:
    """The answers that are being written.

    Args:
        model: In evaluation mode.
        processor: Of the model.
    """

    def __init__(self, model: VisionLanguageModel, processor: Processor) -> None:
        self._model, self._processor = model, processor
        self._rows: list[Row] = []
        self._state: _State | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The answers under way."""
        return tuple(self._rows)

    @property
    def can_join(self) -> bool:
        """Whether others may join now: at once where keys and values are all that is kept, else when nobody is left."""
        return not self._rows or not is_read_apart(self._model)

    @property
    def tokens(self) -> int:
        """Places that keys and values are kept for."""
        return len(self._rows) * self._state.room if self._state else 0

    @torch.inference_mode()
    def join(self, rows: Sequence[Row], album: Album) -> None:
        """Read questions, so that the next step writes the first token of each.

        Raises:
            RecordError: A question cannot be read; then none has joined.
        """
        assert self.can_join, "the answers under way are written to their end first"
        room = max(row.left for row in (*self._rows, *rows))
        state = _opening(self._model, self._processor, album, rows, room=room if self._state is None else 0)
        self._state = state if self._state is None else _merged([self._state, state], room=room)
        self._rows += rows

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Write one token of every answer; those that have ended leave and are given back."""
        if self._state is None:
            return []
        ids_R = self._choose(self._model.language.head(self._state.hidden_RD))
        going = [place for place, row in enumerate(self._rows) if not self._has_ended(row)]
        ended = [row for row in self._rows if self._has_ended(row)]
        self._keep(going)
        if self._state is not None:
            self._read_on(ids_R[going] if len(going) < len(ids_R) else ids_R)
        return ended

    def leave(self, rows: Collection[Row]) -> None:
        """Give answers up."""
        with torch.inference_mode():
            self._keep([place for place, row in enumerate(self._rows) if row not in rows])

    def _keep(self, places: list[int]) -> None:
        if len(places) == len(self._rows):
            return
        self._rows = [self._rows[place] for place in places]
        if not places or self._state is None:
            self._state = None
            return
        state, kept = self._state, torch.tensor(places, device=self._state.seen_RM.device)
        state.cache.batch_select_indices(kept)
        self._state = replace(
            state, hidden_RD=state.hidden_RD[kept], seen_RM=state.seen_RM[kept], positions_R=state.positions_R[kept]
        )

    def _read_on(self, ids_R: Tensor) -> None:
        state = self._state
        assert state is not None
        hidden_R1D = self._model.read_on(
            ids_R[:, None],
            state.seen_RM[:, : state.length + 1],
            positions_BT=state.positions_R[:, None],
            cache=state.cache,
        )
        self._state = replace(
            state, hidden_RD=hidden_R1D[:, -1], positions_R=state.positions_R + 1, length=state.length + 1
        )

    def _has_ended(self, row: Row) -> bool:
        tokenizer = self._processor.prompt.tokenizer
        return (
            row.left == 0
            or row.written[-1] == tokenizer.eos_token_id
            or is_stopped(tokenizer, row.written, row.decoding.stop)
        )

    def _choose(self, logits_RV: Tensor) -> Tensor:
        """The next token of each row, which is told it."""
        ids_R = logits_RV.argmax(-1)
        drawn = [place for place, row in enumerate(self._rows) if row.stream is not None]
        if drawn:
            ids_R[drawn] = _drawn(logits_RV[drawn], [self._rows[place] for place in drawn])
        likelihoods_R = logits_RV.gather(1, ids_R[:, None])[:, 0].float() - logits_RV.float().logsumexp(-1)
        for row, token, likelihood in zip(self._rows, ids_R.tolist(), likelihoods_R.tolist(), strict=True):
            row.written.append(token)
            row.log_likelihood += likelihood
        return ids_R


def _drawn(logits_RV: Tensor, rows: Sequence[Row]) -> Tensor:
    # The same number falls on the same token whoever else is asked: the inverse of the cumulative distribution.
    temperatures_R1 = torch.tensor([[row.decoding.temperature] for row in rows], device=logits_RV.device)
    drawn_R = torch.cat([torch.rand(1, generator=row.stream, dtype=torch.float64) for row in rows])
    cumulative_RV = (logits_RV.double() / temperatures_R1.double()).softmax(-1).cumsum(-1)
    wanted_R1 = (drawn_R.to(cumulative_RV.device) * cumulative_RV[:, -1]).unsqueeze(1)
    return torch.searchsorted(cumulative_RV, wanted_R1, right=True).clamp(max=logits_RV.shape[1] - 1)[:, 0]


def text_of(tokenizer: Any, ids: Sequence[int], stop: Sequence[str]) -> str:
    """What was written, up to a stop, without white space around it."""
    text = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    ends = [place for one in stop if (place := text.find(one)) >= 0]
    return text[: min(ends)].strip() if ends else text.strip()


def is_stopped(tokenizer: Any, ids: Sequence[int], stop: Sequence[str]) -> bool:
    """Whether a stop was written."""
    if not stop:
        return False
    text = tokenizer.decode(list(ids), skip_special_tokens=True)
    return any(one in text for one in stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
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
        return self.seen_RM.shape[1]


def is_read_apart(model: VisionLanguageModel) -> bool:
    """Whether more than keys and values is to be kept of a question, so that nothing of it is shared or moved."""
    return model.cross_attention is not None or getattr(model.language, "soft_prompt", None) is not None


def _opening(
    model: VisionLanguageModel, processor: Processor, album: Album, rows: Sequence[Row], *, room: int
) -> _State:
    if is_read_apart(model):
        return _opening_apart(model, processor, rows, room=room)
    sequences = list(dict.fromkeys(row.sequence for row in rows))
    tails: dict[tuple[int, ...], Tail] = {}
    for block in read_forest(model, album, sequences, keep_tails=True, image_id=processor.image_id):
        for tail in block:
            for index in tail.node.sequences:
                if tail.node.end == len(sequences[index]):
                    tails[sequences[index]] = tail
    ends = [tails[row.sequence] for row in rows]
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
        hidden_RD=torch.stack([tail.hidden_SD[-1] for tail in ends]),
        positions_R=torch.tensor([len(row.sequence) for row in rows], device=device),
    )


def _opening_apart(model: VisionLanguageModel, processor: Processor, rows: Sequence[Row], *, room: int) -> _State:
    inputs = [processor.question(row.example) for row in rows]
    batch = pad(inputs, image_id=processor.image_id, left=True).to(next(model.parameters()).device)
    positions_RL = (batch.attention_BT.cumsum(1) - 1).clamp(min=0)
    cache = model.new_cache()
    hidden_RLD = model.read(batch, positions_BT=positions_RL, cache=cache)
    seen_RM = torch.cat([batch.attention_BT, batch.attention_BT.new_ones(len(inputs), room)], dim=1)
    return _State(
        hidden_RD=hidden_RLD[:, -1],
        cache=cache,
        seen_RM=seen_RM,
        positions_R=positions_RL[:, -1] + 1,
        length=batch.ids_BT.shape[1],
    )


def _merged(states: Sequence[_State], *, room: int) -> _State:
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
    def of_state(cls, state: _State, places: list[int]) -> _Part:
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


def _laid_out(parts: Sequence[_Part], *, room: int, hidden_RD: Tensor, positions_R: Tensor) -> _State:
    """Keys and values of all parts side by side, with room for what will be written."""
    length = max(part.seen_RL.shape[1] for part in parts)
    seen_RM = torch.zeros(len(positions_R), length + room, dtype=torch.long, device=hidden_RD.device)
    seen_RM[:, length:] = 1
    for part in parts:
        seen_RM[part.places, : part.seen_RL.shape[1]] = part.seen_RL
    cache = DynamicCache()
    cache.layers = [
        _RoomyLayer([(part.layer(number), part.places) for part in parts], length=length, room=room)
        for number in range(len(parts[0].layers))
    ]
    return _State(hidden_RD=hidden_RD, cache=cache, seen_RM=seen_RM, positions_R=positions_R, length=length)


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
