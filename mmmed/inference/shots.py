"""Which examples stand before a question: always the same, drawn for each by a seed, or the nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from mmmed.errors import ConfigError, DataError
from mmmed.records import Example

Choice = Literal["fixed", "random", "nearest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shots:
    """Which examples, and how many.

    Args:
        count: How many stand before each question; 0 for none.
        choice: "fixed" draws them once, so that they are read once; "random" draws for each question; "nearest"
            takes those whose words are most like the question's (cosine of TF-IDF vectors), the nearest last.
        seed: Changes what is drawn.

    Raises:
        ConfigError: The count is below 0, or there is no such choice.
    """

    count: int = 0
    choice: Choice = "fixed"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"shots is {self.count}; expected 0 or more")
        if self.choice not in ("fixed", "random", "nearest"):
            raise ConfigError(f"shot_choice is {self.choice!r}; expected fixed, random or nearest")


def choose_shots(asked: Sequence[Example], pool: Sequence[Example], shots: Shots) -> list[tuple[Example, ...]]:
    """The shots of each question, never of its own patient (or context).

    Args:
        asked: The questions.
        pool: What shots are taken from, of the same topic where there are enough.
        shots: Which.

    Raises:
        DataError: The pool is too small.
    """
    if not shots.count:
        return [()] * len(asked)
    nearness = _Nearness(pool) if shots.choice == "nearest" else None
    order = Random(shots.seed).sample(range(len(pool)), len(pool))
    chosen = []
    for example in asked:
        if shots.choice == "random":
            order = Random(f"{shots.seed} {example.source}:{example.id}").sample(range(len(pool)), len(pool))
        elif nearness is not None:
            order = nearness.order(example)
        own = [pool[index] for index in order if (pool[index].source, pool[index].patient) != _of(example)]
        same = [one for one in own if one.topic == example.topic]
        found = (same if len(same) >= shots.count else own)[: shots.count]
        if len(found) < shots.count:
            raise DataError(
                f"{example.source}:{example.id}: {len(found)} examples to show before it; expected {shots.count}"
            )
        chosen.append(tuple(reversed(found)) if nearness is not None else tuple(found))
    return chosen


def _of(example: Example) -> tuple[str, str]:
    return (example.source, example.patient)


class _Nearness:
    def __init__(self, pool: Sequence[Example]) -> None:
        self._vectorizer = TfidfVectorizer(sublinear_tf=True)
        self._pool_NV = self._vectorizer.fit_transform([one.question for one in pool])

    def order(self, example: Example) -> list[int]:
        """Places in the pool, the nearest first; equal ones in the pool's order."""
        likeness: NDArray[np.float64] = (self._pool_NV @ self._vectorizer.transform([example.question]).T).toarray()
        return [int(index) for index in np.argsort(-likeness[:, 0], kind="stable")]
