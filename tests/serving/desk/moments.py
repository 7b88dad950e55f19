"""Kills its own process at a moment that is named beforehand, as nobody outside of it could hit."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, event

HEADER = b"x-kill"
PHASES = ("before", "during", "after")
"""Of a commit, or of the look into an upload; after it, up to the answer and a little longer."""
Writing = Callable[[Engine], AbstractContextManager[Connection]]


class Moment(NamedTuple):
    """When to die.

    Args:
        phase: One of `PHASES`.
        place: Before: statements of the transaction that are still executed; during and after: seconds from the
            beginning of the phase on.
    """

    phase: str
    place: float

    def header(self) -> str:
        """As a request says it."""
        return f"{HEADER.decode()}: {self.phase} {self.place}\r\n"


class Moments:
    """Watches one request at a time, and measures those that do not say when to die."""

    def __init__(self) -> None:
        self.wanted: Moment | None = None
        self.measured = dict.fromkeys(PHASES, 0.0)
        self._statements = 0
        self._since = 0.0

    def watched(self, writing: Writing) -> Writing:
        """A transaction that is killed where it is wanted."""

        @contextmanager
        def watching(engine: Engine) -> Iterator[Connection]:
            with writing(engine) as connection:
                self._statements = 0
                event.listen(connection, "before_cursor_execute", self._before)
                yield connection
                self._measure("before", self._statements)
                self.begins()
            self.is_done()

        return watching

    def begins(self) -> None:
        """The commit, or the look into an upload, begins."""
        if self.wanted and self.wanted.phase == "before":
            die()
        self._since = time.perf_counter()
        self._die_in("during")

    def is_done(self) -> None:
        """It has ended."""
        self._measure("during", time.perf_counter() - self._since)
        self._since = time.perf_counter()
        self._die_in("after")

    def asked(self, header: bytes | None) -> None:
        """A request begins."""
        self._since = 0.0
        self.wanted = None
        if header:
            phase, place = header.decode().split()
            self.wanted = Moment(phase, float(place))

    def answered(self) -> None:
        """Its answer has left."""
        if self._since:
            # A little longer, so that some die when the answer has left.
            self._measure("after", 1.3 * (time.perf_counter() - self._since))

    def _before(self, *arguments: Any) -> None:
        wanted = self.wanted
        if wanted and wanted.phase == "before" and self._statements >= wanted.place:
            die()
        self._statements += 1

    def _measure(self, name: str, value: float) -> None:
        if self.wanted is None:
            self.measured[name] = value

    def _die_in(self, phase: str) -> None:
        if self.wanted and self.wanted.phase == phase:
            delay = self.wanted.place
            threading.Thread(target=lambda: (time.sleep(delay), die()), daemon=True).start()


class Watching:
    """An application whose requests say when to die."""

    def __init__(self, app: Any, moments: Moments) -> None:
        self._app, self._moments = app, moments

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        self._moments.asked(dict(scope["headers"]).get(HEADER))
        await self._app(scope, receive, send)
        self._moments.answered()


def die() -> None:
    """As by SIGKILL from outside: nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)
