"""What is wrong with a question and answer that a model made of a caption."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mmmed.processing.findings.labeller import Status, chest_labeller

LONGEST_QUESTION, LONGEST_ANSWER = 40, 120
"""Words."""
SAID_IN_CAPTION = 0.5
"""Least share of an answer's words of content that the caption or the question has too."""

_TEXT_ITSELF = re.compile(
    r"\b(?:captions?|the (?:given |provided |above )?(?:text|report|passage|description|notes?)|"
    r"(?:stated|mentioned|described|provided|given) in|according to|as (?:stated|mentioned|described|noted)|"
    r"not (?:mentioned|specified|stated|provided|given)|as an ai|i cannot see|no image)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_WORD = re.compile(r"[a-z][a-z'-]+")
_ENDING = re.compile(r"(?:ies|es|s|ing|ed|ly)$")
# Words that carry an answer and nothing of the picture.
_PLAIN_WORDS = """
a about above after all also an and any appear appears are as at be been being below between both but by
can could did do does due each few for from had has have how if image images in indicate indicates
indicated into is it its may might more most no not of on one or other over part picture present seen shown
shows show so some such than that the their them then there these they this those through to under upon
visible was were what when where which while who why with within without would yes you your suggest
suggests suggesting likely possible finding findings patient
"""
_PLAIN = frozenset(_PLAIN_WORDS.split())


class Pair(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


def wording(pair: Pair, caption: str) -> str | None:
    """It gives away that there was a text: whoever looks at the picture sees none."""
    for part in pair:
        if found := _TEXT_ITSELF.search(part):
            return f"speaks of the text: {found[0]!r}"
    return None


def length(pair: Pair, caption: str) -> str | None:
    """It is empty, or too long to learn from."""
    for name, part, most in zip(("question", "answer"), pair, (LONGEST_QUESTION, LONGEST_ANSWER), strict=True):
        if not 1 <= (words := len(part.split())) <= most:
            return f"{name} of {words} words"
    return None


def numbers(pair: Pair, caption: str) -> str | None:
    """It has a number that the caption has not."""
    known = set(_NUMBER.findall(caption))
    unknown = [number for part in pair for number in _NUMBER.findall(part) if number not in known]
    return f"number {unknown[0]} is not in the caption" if unknown else None


def findings(pair: Pair, caption: str) -> str | None:
    """The answer states a finding that the caption does not, or denies one that it states."""
    known = chest_labeller().findings(caption)
    for name, status in chest_labeller().findings(pair.answer).items():
        told = known.get(name)
        if status is Status.STATED and told is not Status.STATED:
            return f"{name} is not stated in the caption"
        if status is Status.DENIED and told is Status.STATED:
            return f"{name} is stated in the caption"
    return None


def answerability(pair: Pair, caption: str) -> str | None:
    """Most of what the answer says is neither in the caption nor in the question."""
    said = _content(pair.answer)
    if not said:
        return None
    share = len(said & (_content(caption) | _content(pair.question))) / len(said)
    return f"{share:.0%} of the answer is in the caption" if share < SAID_IN_CAPTION else None


FILTERS: Mapping[str, Callable[[Pair, str], str | None]] = {
    "wording": wording,
    "length": length,
    "numbers": numbers,
    "findings": findings,
    "answerability": answerability,
}
"""By name, in the order they are asked."""


def fault(pair: Pair, caption: str) -> tuple[str, str] | None:
    """The first filter that a pair does not pass, and why; None for a good one."""
    for name, one in FILTERS.items():
        if (reason := one(pair, caption)) is not None:
            return name, reason
    return None


def _content(text: str) -> set[str]:
    return {_ENDING.sub("", word) for word in _WORD.findall(text.lower()) if word not in _PLAIN}
