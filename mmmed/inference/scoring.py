"""How likely a model holds each option of a closed question, with nothing read twice.

Few-shot examples, contexts, images and questions that several sequences share go through the model once
(`forest`); options of one token each are read from a single forward pass of the question, and only the places that an
option's tokens are predicted from get logits.

An option is tokenised as it stands in the conversation, together with what is before it, and what is before it must
tokenise the same without it. lm-evaluation-harness tokenises jointly as well, but cuts the whole where the context's
own tokens would end, so that under a tokenizer that merges across the border it scores other tokens than it says;
here that is an error (`ChatPrompt.answer`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmmed.errors import ConfigError
from mmmed.inference.album import Album
from mmmed.inference.reading import Tail, read_forest
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

# Shape letters: S tokens of a node, D width, P places that something is predicted from, V vocabulary.

PLACES_AT_ONCE = 64
"""Places whose logits are computed at once."""

Length = Literal["none", "tokens", "characters", "bytes"]


class Likelihoods(NamedTuple):
    """Log-likelihood of each option of one example, in their order, and each option's length.

    Args:
        values: Sum over the option's tokens.
        tokens: How many tokens each option has.
    """

    values: tuple[float, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How likelihoods become a choice.

    Args:
        length: What a sum over tokens is divided by, so that long options are not at a disadvantage: the option's
            length in tokens, characters (lm-evaluation-harness's `acc_norm`) or bytes; "none" takes the sum itself.
        calibrated: Whether the option's likelihood after a question without content is subtracted, so that what
            the model would say anyway does not count. Source: Zhao et al. 2021, Calibrate Before Use, section 5;
            Holtzman et al. 2021, Surface Form Competition.

    Raises:
        ConfigError: There is no such length.
    """

    length: Length = "none"
    calibrated: bool = False

    def __post_init__(self) -> None:
        if self.length not in ("none", "tokens", "characters", "bytes"):
            raise ConfigError(f"length is {self.length!r}; expected none, tokens, characters or bytes")

    def values(
        self, likelihoods: Likelihoods, options: Sequence[str], *, prior: Likelihoods | None = None
    ) -> list[float]:
        """What the options are chosen by: the larger, the better. `prior` is that of the question without content."""
        if self.calibrated and prior is None:
            raise ConfigError("a calibrated choice needs the likelihoods after a question without content")
        given = likelihoods.values
        if self.calibrated and prior is not None:
            given = tuple(value - other for value, other in zip(given, prior.values, strict=True))
        lengths = self._lengths(likelihoods, options)
        return [value / length for value, length in zip(given, lengths, strict=True)]

    def _lengths(self, likelihoods: Likelihoods, options: Sequence[str]) -> list[int]:
        if self.length == "tokens":
            return list(likelihoods.tokens)
        if self.length == "characters":
            return [len(option) for option in options]
        if self.length == "bytes":
            return [len(option.encode()) for option in options]
        return [1] * len(options)


@dataclass(frozen=True, slots=True)
class _Question:
    prompt: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]


class _Prediction(NamedTuple):
    """A token that is predicted from a place of a sequence, for an option of a question."""

    place: int
    token: int
    question: int
    option: int


@dataclass(slots=True)
class _Progress:
    """Sums of log-probabilities so far, and how many are still to come."""

    sums: list[float]
    left: int
    examples: int = 0


@dataclass(slots=True)
class _Plan:
    """Distinct sequences, and what is predicted from them."""

    sequences: dict[tuple[int, ...], int] = field(default_factory=dict)
    predictions: list[list[_Prediction]] = field(default_factory=list)

    def add(self, question: _Question, *, number: int) -> None:
        """Plan to read a question, once for all its options of one token, and with each longer option."""
        last = len(question.prompt) - 1
        for index, option in enumerate(question.options):
            sequence = question.prompt + option[:-1]
            place = self.sequences.setdefault(sequence, len(self.sequences))
            if place == len(self.predictions):
                self.predictions.append([])
            self.predictions[place] += [
                _Prediction(last + offset, token, number, index) for offset, token in enumerate(option)
            ]


@torch.inference_mode()
def score_options(
    model: VisionLanguageModel,
    processor: Processor,
    examples: Iterable[Example],
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> list[Likelihoods]:
    """Log-likelihood of every option of every example; equal questions are computed once.

    Args:
        model: In evaluation mode.
        processor: Of the model.
        examples: Closed questions.
        advance: Told how many examples are done since the last call.

    Raises:
        ConfigError: The tokens of a question change with the option that follows it.
        RecordError: A question does not fit into the processor's `max_length`.
    """
    album = Album(model, processor)
    asked = [_question(album, processor, example) for example in examples]
    numbers = {question: number for number, question in enumerate(dict.fromkeys(asked))}
    plan, progress = _Plan(), []
    for question, number in numbers.items():
        plan.add(question, number=number)
        progress.append(_Progress([0.0] * len(question.options), sum(map(len, question.options))))
    for question in asked:
        progress[numbers[question]].examples += 1
    waiting = _Waiting(model, progress)
    for block in read_forest(model, album, list(plan.sequences), image_id=processor.image_id):
        waiting.add(block, plan.predictions)
        if waiting.places >= PLACES_AT_ONCE:
            advance(waiting.compute())
    advance(waiting.compute())
    return [
        Likelihoods(tuple(progress[numbers[question]].sums), tuple(map(len, question.options))) for question in asked
    ]


def _question(album: Album, processor: Processor, example: Example) -> _Question:
    options = tuple(map(tuple, processor.answers_ids(example, example.options)))
    return _Question(album.sequence(example), options)


class _Waiting:
    """Places that were read and still need their logits, which are computed for many at once."""

    def __init__(self, model: VisionLanguageModel, progress: Sequence[_Progress]) -> None:
        self._model, self._progress = model, progress
        self._states: list[Tensor] = []
        self._wanted: list[list[_Prediction]] = []

    @property
    def places(self) -> int:
        return len(self._wanted)

    def add(self, block: Sequence[Tail], predictions: Sequence[Sequence[_Prediction]]) -> None:
        """Take from what was read the places that something is predicted from."""
        wanted: dict[tuple[int, int], list[_Prediction]] = {}
        for row, tail in enumerate(block):
            for sequence in tail.node.sequences:
                for one in predictions[sequence]:
                    if tail.node.begin <= one.place < tail.node.end:
                        wanted.setdefault((row, one.place - tail.node.begin), []).append(one)
        self._states += [block[row].hidden_SD[offset].clone() for row, offset in wanted]
        self._wanted += wanted.values()

    def compute(self) -> int:
        """Add what is predicted to its options; how many examples this completes."""
        done = 0
        for start in range(0, len(self._wanted), PLACES_AT_ONCE):
            here = slice(start, start + PLACES_AT_ONCE)
            logits_PV = self._model.language.head(torch.stack(self._states[here]), exact=True)
            done += _add(logits_PV, self._wanted[here], self._progress)
        self._states, self._wanted = [], []
        return done


def _add(logits_PV: Tensor, wanted: Sequence[Sequence[_Prediction]], progress: Sequence[_Progress]) -> int:
    totals_P = logits_PV.logsumexp(-1)
    flat = [(place, one) for place, predictions in enumerate(wanted) for one in predictions]
    rows = torch.tensor([place for place, _ in flat], device=logits_PV.device)
    tokens = torch.tensor([one.token for _, one in flat], device=logits_PV.device)
    found = (logits_PV[rows, tokens] - totals_P[rows]).tolist()
    done = 0
    for value, (_, one) in zip(found, flat, strict=True):
        state = progress[one.question]
        assert math.isfinite(value) or value == -math.inf, "a model gave what is not a number"
        state.sums[one.option] += value
        state.left -= 1
        if state.left == 0:
            done += state.examples
    return done
