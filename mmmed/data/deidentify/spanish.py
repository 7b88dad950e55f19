"""Whether a text is Spanish, where the rules of the two languages differ."""

from bisect import bisect_left
from functools import lru_cache

from mmmed.data.deidentify.rules import words, words_at

_SPANISH_WORDS = words("el la los las que con por del una paciente años se")
_LOOKS_SPANISH = 0.06
_BEGINNING = 2000


@lru_cache(maxsize=64)
def is_spanish(text: str) -> bool:
    """Say whether a text is more likely Spanish than English, by its smallest words."""
    known = words_at(text)
    spanish = sum(bisect_left(known[word], _BEGINNING) for word in _SPANISH_WORDS & known.keys())
    return spanish > _LOOKS_SPANISH * (text.count(" ", 0, _BEGINNING) + 1) + 1
