"""Multiple-choice questions: options as full texts, the answer as the text of the right one.

Letters are the business of whoever asks; a source that kept them would decide how every model is asked.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmmed.data.entries import as_text
from mmmed.errors import RecordError

LETTERS = "ABCDEFGHIJ"
TOPIC = "choice"


class Choice(NamedTuple):
    """What may be answered, and what is right."""

    options: tuple[str, ...]
    answer: str


def choice(texts: Sequence[str], *, right: int) -> Choice:
    """Check options and pick the right one; white space in them becomes single spaces.

    Args:
        texts: Two or more, in the published order.
        right: Place of the right one, from 0.

    Raises:
        RecordError: An option is empty or stands twice, there are fewer than two, or none is at that place.
    """
    options = tuple(" ".join(text.split()) for text in texts)
    if len(options) < 2 or "" in options:
        raise RecordError(f"{sum(map(bool, options))} of {len(options)} options are filled; expected two or more, all")
    if len(set(options)) < len(options):
        twice = next(option for option in options if options.count(option) > 1)
        raise RecordError(f"the option {twice!r} stands twice, so that a right answer may count as wrong")
    if not 0 <= right < len(options):
        raise RecordError(f"the answer is option {right + 1} of {len(options)}; expected one of them")
    return Choice(options, options[right])


def by_letter(letter: str, count: int) -> int:
    """Place of an option from its letter. Raises `RecordError` for any but the first `count` letters."""
    known = LETTERS[:count]
    if len(letter) != 1 or letter.upper() not in known:
        raise RecordError(f"the answer is {letter!r}; expected one of the letters {', '.join(known)}")
    return known.index(letter.upper())


def lettered(options: Mapping[str, object]) -> list[str]:
    """Option texts from an object by letter, in the order of the letters. Raises `RecordError` where one is no text."""
    letters = sorted(options)
    if letters != list(LETTERS[: len(letters)]):
        raise RecordError(f"the options are named {', '.join(map(repr, letters))}; expected 'A', 'B', and so on")
    return [as_text(options[letter], name=letter) for letter in letters]
