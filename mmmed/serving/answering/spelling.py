"""Text out of tokens as they come: nothing is given out that a later token may still change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HALF = "\N{REPLACEMENT CHARACTER}"


class Spelling:
    """The text of an answer under way.

    Args:
        tokenizer: Of the language model.
        stop: Texts that end the answer and are no part of it.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._given = 0

    def more(self, ids: Sequence[int]) -> str:
        """What has become certain since the last call, of all tokens so far."""
        text = str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).lstrip()
        certain = len(text)
        # Half of a letter, and what may be the beginning of a stop or white space at the end, wait.
        while certain and text[certain - 1] == _HALF:
            certain -= 1
        for stop in self._stop:
            if (place := text.find(stop)) >= 0:
                certain = min(certain, place)
            certain = min(certain, _beginning_of(stop, text))
        certain = len(text[:certain].rstrip())
        piece = text[self._given : certain]
        self._given = max(self._given, certain)
        return piece

    def rest(self, whole: str) -> str:
        """What was held back of the whole answer."""
        piece = whole[self._given :]
        self._given = len(whole)
        return piece


def _beginning_of(stop: str, text: str) -> int:
    """Where the text ends in what may become a stop."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return len(text) - length
    return len(text)
