"""Free text, many questions at once: what they share is read once, and each step costs one token a question.

Greedy unless a temperature is given; then each question draws from its own stream of random numbers, so that an
answer depends neither on who else is in the batch nor on the order of the questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from mmmed.errors import ConfigError
from mmmed.inference.album import Album
from mmmed.inference.running import Decoding, Row, RunningBatch, text_of
from mmmed.inference.state import is_read_apart
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

__all__ = ["Decoding", "generate", "row_of"]


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
        if is_read_apart(model):
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
        rows = [_row(examples[examples_of[one][0]], one, decoding) for one in batch]
        running = RunningBatch(model, processor)
        running.join(rows, album)
        while running.rows:
            running.step()
        done = 0
        for one, row in zip(batch, rows, strict=True):
            for index in examples_of[one]:
                texts[index] = text_of(processor.prompt.tokenizer, row.written, decoding.stop)
            done += len(examples_of[one])
        advance(done)
    return texts


def row_of(album: Album, example: Example, decoding: Decoding) -> Row:
    """A question as `RunningBatch` takes it.

    Raises:
        RecordError: The question does not fit into the processor's `max_length`.
    """
    return _row(example, _Asked(album.sequence(example), 0), decoding)


class _Asked(NamedTuple):
    sequence: tuple[int, ...]
    draw: int


def _row(example: Example, one: _Asked, decoding: Decoding) -> Row:
    stream = _stream(one, example, seed=decoding.seed) if decoding.temperature else None
    return Row(example, one.sequence, decoding, stream)


def _stream(one: _Asked, example: Example, *, seed: int) -> torch.Generator:
    # Images have other numbers in other company, but their own names.
    words = [max(token, -1) for token in one.sequence]
    named = repr((seed, one.draw, words, [image.name for image in example.images]))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(named.encode()).digest()[:7]))
