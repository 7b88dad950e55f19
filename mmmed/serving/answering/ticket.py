"""One question on its way: what the model's thread tells whoever waits for the answer, wherever they wait."""

from __future__ import annotations

import asyncio
import math
import queue
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from mmmed.inference.generation import Decoding
from mmmed.records import Example

Why = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Piece:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The answer is whole.

    Args:
        text: All of it, without white space around it.
        why: It ended by itself, at its greatest length, or because nobody waits for it any more.
        asked_tokens: Tokens of the question.
        tokens: Tokens of the answer.
        log_likelihood: Of these tokens under the model, summed.
        waited_s: Seconds until it was begun.
    """

    text: str
    why: Why
    asked_tokens: int
    tokens: int
    log_likelihood: float
    waited_s: float

    @property
    def confidence(self) -> float:
        """Mean probability of the answer's tokens (geometric), between 0 and 1."""
        return math.exp(self.log_likelihood / self.tokens) if self.tokens else 0.0


Event = Piece | Ended | BaseException


class Inbox(Protocol):
    """Where a waiting reader is told what happens; called in the model's thread."""

    def put(self, event: Event) -> None:
        """Tell the reader; never blocks."""
        ...


@dataclass(eq=False, kw_only=True)
class Ticket:
    """A question that waits or is being answered.

    Args:
        example: The question.
        decoding: How the answer is written.
        inbox: Where the reader waits.
    """

    example: Example
    decoding: Decoding
    inbox: Inbox
    since: float = field(default_factory=time.monotonic)
    begun: float | None = None
    is_cancelled: bool = False

    def cancel(self) -> None:
        """Say that nobody waits any more; the answer is given up before its next token."""
        self.is_cancelled = True


class LoopInbox:
    """An inbox that is read in an event loop, which is the one it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, event: Event) -> None:
        """Tell the reader; a loop that has ended has no reader."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def events(self) -> AsyncIterator[Piece | Ended]:
        """What happens, to the end; a failure of the model is raised."""
        while True:
            event = await self._events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, Ended):
                return


class ThreadInbox:
    """An inbox that is read in an ordinary thread."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def put(self, event: Event) -> None:
        """Tell the reader."""
        self._events.put(event)

    def events(self) -> Iterator[Piece | Ended]:
        """What happens, to the end; a failure of the model is raised."""
        while True:
            event = self._events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, Ended):
                return
