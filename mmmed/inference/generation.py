"""Free text, many questions at once: what they share is read once, and each step costs one token a question.

Greedy unless a temperature is given; then each question draws from its own stream of random numbers, so that an
answer depends neither on who else is in the batch nor on the order of the questions.

Shape letters: R rows, L tokens read, M tokens at most, D language width, V vocabulary, H key-value heads, C width
of a head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@torch.inference_mode()
def generate(
    model: VisionLanguageModel,
    processor: Processor,
    examples: Sequence[Example],
    *,
    decoding: Decoding,
    begun: Sequence[str] | None = None,
    batch_size: int = 16,
    advance: Callable[[int], object] = lambda count: None,
) -> list[str]:
    """The answer to each example, without white space around it; equal questions are answered once unless drawn.

    Args:
        model: In evaluation mode.
        processor: Of the model.
        examples: Questions; options are not looked at.
        decoding: How answers are written.
        begun: How each answer begins, where that is given; what is written goes on from there.
        batch_size: Answers written at once.
        advance: Told how many examples are done since the last call.

    Raises:
        RecordError: A question does not fit into the processor's `max_length`.
        ConfigError: A model that is read apart is to go on from beginnings.
    """
    album = Album(model, processor)
    sequences = [album.sequence(example) for example in examples]
    if begun is not None:
        if _is_read_apart(model):
            raise ConfigError("a model with cross-attention or a soft prompt cannot go on from how an answer begins")
        beginnings = [processor.answer_ids(*one) for one in zip(examples, begun, strict=True)]
        sequences = [(*sequence, *ids) for sequence, ids in zip(sequences, beginnings, strict=True)]
    # Drawn answers differ by their place among equal questions, and by nothing else.
    draws: dict[tuple[int, ...], int] = {}
    asked: list[_Asked] = []
    for sequence in sequences:
        draw = draws.get(sequence, 0) if decoding.temperature else 0
        draws[sequence] = draw + 1
        asked.append(_Asked(sequence, draw))
    examples_of: dict[_Asked, list[int]] = {}
    for index, one in enumerate(asked):
        examples_of.setdefault(one, []).append(index)
    texts = [""] * len(examples)
    ordered = sorted(examples_of)
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        first = [examples[examples_of[one][0]] for one in batch]
        state = _opening(model, processor, album, batch, examples=first, room=decoding.max_new_tokens)
        choose = _Chooser(batch, first, decoding)
        written = _write(model, processor, state, choose, decoding=decoding)
        done = 0
        for one, text in zip(batch, written, strict=True):
            for index in examples_of[one]:
                texts[index] = text
            done += len(examples_of[one])
        advance(done)
    return texts


class _Asked(NamedTuple):
    sequence: tuple[int, ...]
    draw: int


class _State(NamedTuple):
    """Questions that are read: their last hidden states, and what the next token is read after."""

    hidden_RD: Tensor
    cache: Cache
    seen_RM: Tensor
    positions_R: Tensor


def _opening(
    model: VisionLanguageModel,
    processor: Processor,
    album: Album,
    batch: Sequence[_Asked],
    *,
    examples: Sequence[Example],
    room: int,
) -> _State:
    if _is_read_apart(model):
        return _opening_apart(model, processor, examples, room=room)
    sequences = list(dict.fromkeys(one.sequence for one in batch))
    tails: dict[tuple[int, ...], Tail] = {}
    for block in read_forest(model, album, sequences, keep_tails=True, image_id=processor.image_id):
        for tail in block:
            for index in tail.node.sequences:
                if tail.node.end == len(sequences[index]):
                    tails[sequences[index]] = tail
    ends = [tails[one.sequence] for one in batch]
    cache, seen_RM = _gathered(ends, room=room)
    positions_R = torch.tensor([len(one.sequence) for one in batch], device=seen_RM.device)
    return _State(torch.stack([tail.hidden_SD[-1] for tail in ends]), cache, seen_RM, positions_R)


def _is_read_apart(model: VisionLanguageModel) -> bool:
    return model.cross_attention is not None or getattr(model.language, "soft_prompt", None) is not None


def _opening_apart(
    model: VisionLanguageModel, processor: Processor, examples: Sequence[Example], *, room: int
) -> _State:
    """The same for models of which more than keys and values is to be kept: nothing is shared."""
    inputs = [processor.question(example) for example in examples]
    batch = pad(inputs, image_id=processor.image_id, left=True).to(next(model.parameters()).device)
    positions_RL = (batch.attention_BT.cumsum(1) - 1).clamp(min=0)
    cache = model.new_cache()
    hidden_RLD = model.read(batch, positions_BT=positions_RL, cache=cache)
    seen_RM = torch.cat([batch.attention_BT, batch.attention_BT.new_ones(len(inputs), room)], dim=1)
    return _State(hidden_RLD[:, -1], cache, seen_RM, positions_RL[:, -1] + 1)


def _gathered(tails: Sequence[Tail], *, room: int) -> tuple[Cache, Tensor]:
    """Keys and values of where each row ends, side by side, with room for what will be written."""
    trunks = [tail.trunk for tail in tails if tail.trunk is not None]
    assert len(trunks) == len(tails), "tails are kept"
    length = max(trunk.length for trunk in trunks)
    seen_RM = torch.zeros(len(tails), length + room, dtype=torch.long, device=trunks[0].seen_GL.device)
    seen_RM[:, length:] = 1
    rows_of: dict[int, list[int]] = {}
    for row, trunk in enumerate(trunks):
        rows_of.setdefault(id(trunk), []).append(row)
    groups = [(trunks[rows[0]], rows) for rows in rows_of.values()]
    for trunk, rows in groups:
        seen_RM[rows, : trunk.length] = trunk.seen_GL[[tails[row].row for row in rows]]
    cache = DynamicCache()
    cache.layers = [
        _RoomyLayer(
            [(_layer_rows(trunk, number, [tails[row].row for row in rows]), rows) for trunk, rows in groups],
            length=length,
            room=room,
        )
        for number in range(len(trunks[0].cache.layers))
    ]
    return cache, seen_RM


class _Rows(NamedTuple):
    keys_RHLC: Tensor
    values_RHLC: Tensor


def _layer_rows(trunk: Trunk, number: int, rows: list[int]) -> _Rows:
    layer: Any = trunk.cache.layers[number]
    return _Rows(layer.keys[rows], layer.values[rows])


class _RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values with room for as many tokens as will be written, so that no step copies what was there."""

    def __init__(self, parts: Sequence[tuple[_Rows, list[int]]], *, length: int, room: int) -> None:
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


def _write(
    model: VisionLanguageModel, processor: Processor, state: _State, choose: _Chooser, *, decoding: Decoding
) -> list[str]:
    tokenizer = processor.prompt.tokenizer
    hidden_RD, cache, seen_RM, positions_R = state
    written: list[list[int]] = [[] for _ in positions_R]
    alive = list(range(len(written)))
    read = seen_RM.shape[1] - decoding.max_new_tokens
    for step in range(decoding.max_new_tokens):
        ids_R = choose(model.language.head(hidden_RD), alive)
        for row, token in zip(alive, ids_R.tolist(), strict=True):
            written[row].append(token)
        ongoing = [
            place
            for place, row in enumerate(alive)
            if written[row][-1] != tokenizer.eos_token_id and not _stopped(tokenizer, written[row], decoding.stop)
        ]
        if not ongoing or step + 1 == decoding.max_new_tokens:
            break
        if len(ongoing) < len(alive):
            kept = torch.tensor(ongoing, device=seen_RM.device)
            cache.batch_select_indices(kept)
            seen_RM, positions_R, ids_R = seen_RM[kept], positions_R[kept], ids_R[kept]
            alive = [alive[place] for place in ongoing]
        hidden_RD = model.read_on(
            ids_R[:, None],
            seen_RM[:, : read + step + 1],
            positions_BT=(positions_R + step)[:, None],
            cache=cache,
        )[:, -1]
    return [_text(tokenizer, ids, decoding.stop) for ids in written]


class _Chooser:
    """The next token of each row."""

    def __init__(self, batch: Sequence[_Asked], examples: Sequence[Example], decoding: Decoding) -> None:
        self._temperature = decoding.temperature
        self._streams = [
            _stream(one, example, seed=decoding.seed) for one, example in zip(batch, examples, strict=True)
        ]

    def __call__(self, logits_RV: Tensor, rows: Sequence[int]) -> Tensor:
        if not self._temperature:
            return logits_RV.argmax(-1)
        # The same number falls on the same token whoever else is asked: the inverse of the cumulative distribution.
        drawn_R = torch.cat([torch.rand(1, generator=self._streams[row], dtype=torch.float64) for row in rows])
        cumulative_RV = (logits_RV.double() / self._temperature).softmax(-1).cumsum(-1)
        wanted_R1 = (drawn_R.to(cumulative_RV.device) * cumulative_RV[:, -1]).unsqueeze(1)
        return torch.searchsorted(cumulative_RV, wanted_R1, right=True).clamp(max=logits_RV.shape[1] - 1)[:, 0]


def _stream(one: _Asked, example: Example, *, seed: int) -> torch.Generator:
    # Images have other numbers in other company, but their own names.
    words = [max(token, -1) for token in one.sequence]
    named = repr((seed, one.draw, words, [image.name for image in example.images]))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(named.encode()).digest()[:7]))


def _text(tokenizer: Any, ids: Sequence[int], stop: Sequence[str]) -> str:
    text = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    ends = [place for one in stop if (place := text.find(one)) >= 0]
    return text[: min(ends)].strip() if ends else text.strip()


def _stopped(tokenizer: Any, ids: Sequence[int], stop: Sequence[str]) -> bool:
    if not stop:
        return False
    text = tokenizer.decode(list(ids), skip_special_tokens=True)
    return any(one in text for one in stop)
