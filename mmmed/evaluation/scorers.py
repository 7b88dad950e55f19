"""What an answer is worth, one by one (`Scorer`) and over a whole task (`Metric`).

*Unparsed* is kept apart from *wrong*: an answer that is none of the options has no value, counts as not correct
in an accuracy, is reported as its own rate, and is never guessed into an option.

Legend of array names: P items (or patients, after summing), T tally columns, K classes.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mmmed.errors import ConfigError, did_you_mean
from mmmed.evaluation.predictions import Prediction

FloatArray = NDArray[np.float64]

_ARTICLES = frozenset({"a", "an", "the"})
# Decimal numbers stay whole: without their points 3.5 would equal 35.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)+|\w+")


class Score(NamedTuple):
    """What one answer is worth, in [0, 1]; none where it could not be scored, which is not the same as wrong."""

    value: float | None
    explanation: str


class Scorer(Protocol):
    """Judges one prediction against its reference."""

    def score(self, prediction: Prediction) -> Score: ...


def normalise(text: str) -> str:
    """Bring an answer to the form in which answers are compared: lower case, no punctuation, no articles.

    A text that consists of nothing else (the option "A", a "+") is kept, so that no answer normalises to nothing.

    Source: Rajpurkar et al. 2016, SQuAD, section 6.1 (arXiv 1606.05250); here punctuation separates words instead
    of joining them, and decimal numbers stay whole.
    """
    lowered = unicodedata.normalize("NFKC", text).casefold()
    words = _TOKEN.findall(lowered)
    return " ".join([word for word in words if word not in _ARTICLES] or words) or lowered.strip()


def parse_choice(answer: str, options: Iterable[str]) -> str | None:
    """Find the option an answer names, literally or after `normalise`; none if it names no single one."""
    options = list(options)
    if answer in options:
        return answer
    wanted = normalise(answer)
    matches = [option for option in options if normalise(option) == wanted]
    return matches[0] if len(matches) == 1 else None


class ChoiceScorer:
    """Closed questions: right if the answer names the reference among the options, unparsed if it names none."""

    def score(self, prediction: Prediction) -> Score:
        choice = parse_choice(prediction.answer, prediction.options)
        if choice is None:
            return Score(None, f"{prediction.answer!r} is none of {', '.join(prediction.options) or 'no options'}")
        right = normalise(choice) == normalise(prediction.reference)
        return Score(float(right), f"{choice!r} {'is' if right else 'is not'} {prediction.reference!r}")


class ExactMatchScorer:
    """Open questions, strictly: right if answer and reference are the same after `normalise`."""

    def score(self, prediction: Prediction) -> Score:
        if not prediction.answer.strip():
            return Score(None, "no answer")
        right = normalise(prediction.answer) == normalise(prediction.reference)
        return Score(float(right), f"{prediction.answer!r} {'equals' if right else 'differs from'} the reference")


class TokenF1Scorer:
    """Open questions, by shared words: see `token_f1`."""

    def score(self, prediction: Prediction) -> Score:
        if not prediction.answer.strip():
            return Score(None, "no answer")
        value = token_f1(prediction.answer, prediction.reference)
        return Score(value, f"token F1 {value:.3f} against {prediction.reference!r}")


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of an answer's words, each counted as often as it occurs.

    Source: Rajpurkar et al. 2016, SQuAD, section 6.1 (arXiv 1606.05250).
    """
    said, wanted = normalise(answer).split(), normalise(reference).split()
    shared = (Counter(said) & Counter(wanted)).total()
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


class Judged(NamedTuple):
    """One item as the metrics see it; the answer is none where it could not be parsed."""

    reference: str
    answer: str | None
    patient: str


class Metric(Protocol):
    """A figure over many items that depends on them only through sums.

    Because of that a resample is a weighted sum of tallies, and thousands of them are one matrix product.
    """

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        """What each item adds to the sums, (P, T)."""
        ...

    def value(self, totals: FloatArray) -> FloatArray:
        """The figure from summed tallies, (..., T) to (...); not a number where it is undefined."""
        ...

    def support(self, tallies: FloatArray) -> int:
        """How many of P patients the figure rests on: all, or those of the rarest reference class."""
        ...


@dataclass(frozen=True, slots=True)
class MeanMetric:
    """The mean of a value per item."""

    item_value: Callable[[Judged], float]

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        return np.array([(self.item_value(item), 1.0) for item in items], dtype=np.float64).reshape(len(items), 2)

    def value(self, totals: FloatArray) -> FloatArray:
        return _ratio(totals[..., 0], totals[..., 1])

    def support(self, tallies: FloatArray) -> int:
        return len(tallies)


@dataclass(frozen=True, slots=True)
class ClassMetric:
    """The mean over classes of a value per class, made from hits, answers and references of that class (each K)."""

    class_value: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]

    def tally(self, items: Sequence[Judged], classes: Sequence[str]) -> FloatArray:
        index = {name: number for number, name in enumerate(classes)}
        tallies = np.zeros((len(items), 3, len(classes)))
        for row, item in enumerate(items):
            reference = index[normalise(item.reference)]
            tallies[row, 2, reference] = 1.0
            if item.answer is not None:
                answer = index[normalise(item.answer)]
                tallies[row, 1, answer] = 1.0
                tallies[row, 0, answer] = float(answer == reference)
        return tallies.reshape(len(items), 3 * len(classes))

    def value(self, totals: FloatArray) -> FloatArray:
        hits, answers, references = np.split(totals, 3, axis=-1)
        per_class = self.class_value(hits, answers, references)
        present = np.isfinite(per_class)
        return _ratio(np.where(present, per_class, 0.0).sum(axis=-1), present.sum(axis=-1).astype(np.float64))

    def support(self, tallies: FloatArray) -> int:
        patients = (np.split(tallies, 3, axis=-1)[2] > 0).sum(axis=0)
        return int(min(patients[patients > 0], default=0))


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide; not a number where the denominator is 0."""
    ratio = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def _recall(hits: FloatArray, answers: FloatArray, references: FloatArray) -> FloatArray:
    return _ratio(hits, references)


def _f1(hits: FloatArray, answers: FloatArray, references: FloatArray) -> FloatArray:
    return _ratio(2 * hits, answers + references)


def _is_right(item: Judged) -> float:
    return float(item.answer is not None and normalise(item.answer) == normalise(item.reference))


def _shared_words(item: Judged) -> float:
    return 0.0 if item.answer is None else token_f1(item.answer, item.reference)


def _is_unparsed(item: Judged) -> float:
    return float(item.answer is None)


METRICS: dict[str, Metric] = {
    "accuracy": MeanMetric(_is_right),
    "balanced_accuracy": ClassMetric(_recall),
    "macro_f1": ClassMetric(_f1),
    "token_f1": MeanMetric(_shared_words),
    "exact_match": MeanMetric(_is_right),
    "unparsed": MeanMetric(_is_unparsed),
}
"""By name. Balanced accuracy is the mean recall over the classes present in the references; macro F1 the mean over
the classes present in references or answers; `unparsed` the share of answers that name no option (or are empty)."""


def metric_named(name: str) -> Metric:
    """Look a metric up. Raises `ConfigError` with the nearest names."""
    if name not in METRICS:
        raise ConfigError(f"unknown metric {name!r}{did_you_mean(name, METRICS)}")
    return METRICS[name]


def classes_of(items: Iterable[Judged]) -> list[str]:
    """The classes of closed questions: every reference and every parsed answer, normalised and sorted."""
    return sorted({normalise(text) for item in items for text in (item.reference, item.answer) if text is not None})


def measure(name: str, items: Sequence[Judged]) -> float:
    """One metric over all items; not a number over none. Raises `ConfigError` for an unknown name."""
    metric = metric_named(name)
    return float(metric.value(metric.tally(items, classes_of(items)).sum(axis=0)))
