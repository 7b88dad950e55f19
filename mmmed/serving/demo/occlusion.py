"""Where in a picture an answer comes from: how much less likely it is when a square is painted over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from mmmed.errors import RecordError
from mmmed.inference.scoring import score_options
from mmmed.inference.session import Session
from mmmed.records import Example, LazyImage, Turn
from mmmed.safety.grounding import Occluded, squares_of
from mmmed.serving.answering.engine import Engine

GRID = 6
"""Squares to a side."""


async def occlusion_map(
    engine: Engine, example: Example, text: str, *, place: int, grid: int = GRID
) -> list[list[float]]:
    """The loss of log-likelihood per token of the answer when each square is hidden, (grid, grid).

    Rows are computed one by one, so that others are answered in between.

    Args:
        engine: Of the model.
        example: What was asked.
        text: What was said.
        place: Which of its pictures is hidden in part.
        grid: Squares to a side.

    Raises:
        RecordError: There is no such picture, or nothing was said.
    """
    if not 0 <= place < len(example.images) or not text:
        raise RecordError("there is no such picture in this question, or no answer to explain")
    squares = squares_of(example.images[place].open().size, grid)
    (whole,) = await _likelihoods(engine, example, text, place, [example.images[place]])
    rows = []
    for start in range(0, len(squares), grid):
        hidden = [Occluded(example.images[place], square) for square in squares[start : start + grid]]
        likelihoods = await _likelihoods(engine, example, text, place, hidden)
        rows.append([round(whole - one, 5) for one in likelihoods])
    return rows


async def _likelihoods(
    engine: Engine, example: Example, text: str, place: int, images: Sequence[LazyImage]
) -> list[float]:
    asked = [_with(example, text, place, image) for image in images]

    def score(session: Session) -> list[float]:
        found = score_options(session.model, session.processor, asked)
        return [one.values[0] / max(1, one.tokens[0]) for one in found]

    return await asyncio.wrap_future(engine.compute(score))


def _with(example: Example, text: str, place: int, image: LazyImage) -> Example:
    images = (*example.images[:place], image, *example.images[place + 1 :])
    return replace(example, turns=(*example.turns, Turn("assistant", text)), images=images, options=(text,))
