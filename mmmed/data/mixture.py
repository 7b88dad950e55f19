"""How often each example is seen, where its share of the files is not the share it should have in training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmmed.errors import ConfigError
from mmmed.records import Example


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

    def weights(self, conversations: Sequence[Example]) -> list[float]:
        """How often each conversation is to be seen, in proportion."""
        kinds = [(one.source, one.topic if _is_alone(one) else "") for one in conversations]
        answers = [one.reference if self.balance and one.options and _is_alone(one) else "" for one in conversations]
        in_kind, in_answer = Counter(kinds), Counter(zip(kinds, answers, strict=True))
        answers_of_kind = Counter(kind for kind, _ in in_answer)
        return [
            in_kind[kind] ** (1 / self.temperature) / answers_of_kind[kind] / in_answer[kind, answer]
            for kind, answer in zip(kinds, answers, strict=True)
        ]


def draw(weights: Sequence[float], generator: torch.Generator) -> list[int]:
    """As many indices as there are weights, in random order, each drawn in proportion to its weight.

    None is drawn more than one time above or below what it is expected to be; with equal weights, each comes once.

    Source: systematic sampling, Madow and Madow, On the Theory of Systematic Sampling (1944).
    """
    count = len(weights)
    shuffled = torch.randperm(count, generator=generator)
    edges = torch.tensor(weights, dtype=torch.float64)[shuffled].cumsum(0)
    points = (torch.arange(count) + torch.rand(1, generator=generator, dtype=torch.float64)) / count * edges[-1]
    drawn = shuffled[torch.searchsorted(edges, points).clamp(max=count - 1)]
    return list(map(int, drawn[torch.randperm(count, generator=generator)]))


def _is_alone(conversation: Example) -> bool:
    return sum(turn.speaker == "assistant" for turn in conversation.turns) == 1
