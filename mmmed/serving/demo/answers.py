"""Answers that were given, kept for a while by a random code, so that maps and drafts are of what the server said."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from mmmed.records import Example
from mmmed.serving.refusals import Gone
from mmmed.serving.uploads.folder import Upload

ANSWERS_KEPT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer as it was given.

    Args:
        owner: To whom.
        question: In the visitor's words.
        example: As the model read it.
        text: What it said.
        confidence: Between 0 and 1.
        pictures: What was shown, in the order of the example.
        study: Under which pseudonym the log of studies has it; empty without a picture.
    """

    owner: str
    question: str
    example: Example
    text: str
    confidence: float
    pictures: tuple[Upload, ...]
    study: str = ""


Draft = Callable[[Request, Given], Awaitable[str]]
"""Hands an answer in for sign-off, and says at which path of the server its draft is."""


class GivenAnswers:
    """The latest answers of all visitors."""

    def __init__(self, most: int = ANSWERS_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[str, Given] = OrderedDict()

    def keep(self, given: Given) -> str:
        """Keep one; its code."""
        code = secrets.token_urlsafe(18)
        self._kept[code] = given
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return code

    def get(self, code: str, *, owner: str) -> Given:
        """One by its code. Raises `Gone`."""
        given = self._kept.get(code)
        if given is None or given.owner != owner:
            raise Gone("there is no such answer any more; ask again")
        return given
