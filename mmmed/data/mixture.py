"""How often each example is seen, where its share of the files is not the share it should have in training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mmmed.data.collection import Collection
from mmmed.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Shares of data sets, of what is asked, and of the answers.

    Args:
        temperature: 1 takes each kind of question (a topic of a source) as often as it occurs; the higher, the more
            alike the kinds become, with shares in proportion to n to the power of 1 / temperature.
        balance: Take each answer to a closed question that is asked alone equally often, so that no answer is right
            for being common.

    Raises:
        ConfigError: The temperature is below 1.
    """

    temperature: float = 1.0
    balance: bool = False

    def __post_init__(self) -> None:
        if self.temperature < 1:
            raise ConfigError(f"mixture temperature is {self.temperature}; expected 1 (as in the files) or more")

    def weights(self, conversations: Collection) -> NDArray[np.float64]:
        """How often each conversation is to be seen, in proportion."""
        kinds, answers = conversations.kinds.codes, conversations.answers.codes
        if not self.balance:
            answers = np.zeros_like(answers)
        both = kinds * (answers.max(initial=0) + 1) + answers
        _, first, answer_N, in_answer = np.unique(both, return_index=True, return_inverse=True, return_counts=True)
        in_kind, answers_of_kind = np.bincount(kinds), np.bincount(kinds[first])
        shares = np.array([int(count) ** (1 / self.temperature) for count in in_kind])
        weights: NDArray[np.float64] = shares[kinds] / answers_of_kind[kinds] / in_answer[answer_N]
        return weights


def draw(weights: Sequence[float] | NDArray[np.float64], generator: torch.Generator) -> list[int]:
    """As many indices as there are weights, in random order, each drawn in proportion to its weight.

    None is drawn more than one time above or below what it is expected to be; with equal weights, each comes once.

    Source: systematic sampling, Madow and Madow, On the Theory of Systematic Sampling (1944).
    """
    count = len(weights)
    shuffled = torch.randperm(count, generator=generator)
    edges = torch.as_tensor(weights, dtype=torch.float64)[shuffled].cumsum(0)
    points = (torch.arange(count) + torch.rand(1, generator=generator, dtype=torch.float64)) / count * edges[-1]
    drawn = shuffled[torch.searchsorted(edges, points).clamp(max=count - 1)]
    mixed: list[int] = drawn[torch.randperm(count, generator=generator)].tolist()
    return mixed
