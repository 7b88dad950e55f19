"""What an answer is worth, one by one; figures over a whole task are in `metrics`.

*Unparsed* is kept apart from *wrong*: an answer that is none of the options has no value, counts as not correct
in an accuracy, is reported as its own rate, and is never guessed into an option.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from mmmed.evaluation.predictions import Prediction

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


def choice_of(prediction: Prediction, options: Iterable[str]) -> str | None:
    """The option that a prediction names: by its answer, or by having all of the share where a sentence was written."""
    named = parse_choice(prediction.answer, options)
    if named is not None:
        return named
    return next((option for option, share in prediction.options.items() if share == 1.0), None)


class ChoiceScorer:
    """Closed questions: right if the answer names the reference among the options, unparsed if it names none."""

    def score(self, prediction: Prediction) -> Score:
        choice = choice_of(prediction, prediction.options)
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
