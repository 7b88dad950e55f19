"""Answers that are written side by side, a token each a step; others may join between two steps, and some leave.

A step costs little more for many answers than for one, so that whoever serves many people lets them join (continuous
batching; Source: Yu et al. 2022, Orca, section 3). Whoever has a list of questions writes it batch by batch
(`generation.generate`). Either way an answer depends on nobody else in the batch.

Shape letters: R rows, D language width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmmed.errors import ConfigError
from mmmed.inference.album import Album
from mmmed.inference.state import State, is_read_apart, merged, opening
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
        self._state: State | None = None

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
        state = opening(
            self._model,
            self._processor,
            album,
            [row.example for row in rows],
            [row.sequence for row in rows],
            room=room if self._state is None else 0,
        )
        self._state = state if self._state is None else merged([self._state, state], room=room)
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
        self._state = self._state.only(places) if places and self._state is not None else None

    def _read_on(self, ids_R: Tensor) -> None:
        state = self._state
        assert state is not None
        hidden_R1D = self._model.read_on(
            ids_R[:, None],
            state.seen_RM[:, : state.length + 1],
            positions_BT=state.positions_R[:, None],
            cache=state.cache,
        )
        self._state = state.after(hidden_R1D[:, -1])

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
