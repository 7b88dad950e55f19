"""The one thread that computes: it takes questions in the order of their arrival and writes all answers side by side.

Whoever arrives joins the answers under way before the next token, a few at a time, so that nobody waits for another's
long answer to end, and those under way do not stall while many arrive. Other work of the model (likelihoods of options,
maps) takes its turn between two tokens.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from mmmed.errors import ConfigError, MmmedError
from mmmed.inference.album import Album
from mmmed.inference.generation import row_of
from mmmed.inference.running import Row, RunningBatch, is_stopped, text_of
from mmmed.inference.session import Session
from mmmed.serving.answering.spelling import Spelling
from mmmed.serving.answering.ticket import Ended, Piece, Ticket, Why
from mmmed.serving.refusals import Busy, Closed

logger = logging.getLogger(__name__)

IMAGES_OF_AN_ALBUM = 64
"""Pictures after which features are computed anew; an album keeps what it was shown."""
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How much is done at once.

    Args:
        rows: Answers written side by side.
        tokens: Places that keys and values are kept for, over all answers: what bounds memory.
        joining: Questions read before the next token of those under way is written.
        waiting: Questions that may wait; more are refused.

    Raises:
        ConfigError: A number is below 1.
    """

    rows: int = 64
    tokens: int = 24_576
    joining: int = 8
    waiting: int = 256

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 1 or more")


@dataclass(frozen=True, slots=True)
class Load:
    """What is going on."""

    waiting: int
    writing: int
    tokens: int


class Engine:
    """Answers questions with one model.

    Args:
        session: The model.
        capacity: How much is done at once.
    """

    def __init__(self, session: Session, capacity: Capacity | None = None) -> None:
        self.session = session
        self.capacity = capacity or Capacity()
        self._arrived: deque[Ticket] = deque()
        self._work: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._is_ending = False
        self._thread: threading.Thread | None = None
        self._running = RunningBatch(session.model, session.processor)
        self._tickets: dict[Row, tuple[Ticket, Spelling]] = {}
        self._album = Album(session.model, session.processor)
        self.written_tokens = 0

    @contextmanager
    def answering(self) -> Iterator[Engine]:
        """Answers while it is open; what is still under way at its end is given up."""
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self._thread.start()
        try:
            yield self
        finally:
            with self._changed:
                self._is_ending = True
                self._changed.notify()
            self._thread.join()

    @property
    def load(self) -> Load:
        """What is going on, as of now."""
        return Load(len(self._arrived), len(self._running.rows), self._running.tokens)

    def submit(self, ticket: Ticket) -> None:
        """Put a question in the queue.

        Raises:
            Busy: Too many wait.
            Closed: The server is ending.
        """
        with self._changed:
            self._refuse(len(self._arrived))
            self._arrived.append(ticket)
            self._changed.notify()

    def compute(self, work: Callable[[Session], Result]) -> Future[Result]:
        """Have the model do something else, between two tokens.

        Raises:
            Busy: Too many wait.
            Closed: The server is ending.
        """
        done: Future[Result] = Future()
        with self._changed:
            self._refuse(len(self._work))
            self._work.append((lambda: work(self.session), done))
            self._changed.notify()
        return done

    def _refuse(self, waiting: int) -> None:
        if self._is_ending or self._thread is None:
            raise Closed("the server is ending; ask again when it is back")
        if waiting >= self.capacity.waiting:
            raise Busy(f"{waiting} questions wait already; ask again in a minute")

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._arrived or self._work or self._running.rows or self._is_ending):
                    self._changed.wait()
                if self._is_ending:
                    break
                work = self._work.popleft() if self._work else None
            if work is not None:
                _carry_out(*work)
            self._give_up()
            self._admit()
            self._write()
        self._end()

    def _give_up(self) -> None:
        """Let those go whom nobody waits for any more."""
        leaving = [row for row, (ticket, _) in self._tickets.items() if ticket.is_cancelled]
        if leaving:
            self._running.leave(leaving)
            for row in leaving:
                self._close(row, "cancelled")

    def _admit(self) -> None:
        while self._running.can_join:
            tickets = self._next()
            if not tickets:
                return
            self._join(tickets)
            if self._tickets:
                # Those under way write a token before more are read.
                return

    def _next(self) -> list[Ticket]:
        """Those whose turn it is, in order of arrival."""
        room = min(self.capacity.joining, self.capacity.rows - len(self._running.rows))
        taken: list[Ticket] = []
        with self._changed:
            while self._arrived and len(taken) < room:
                ticket = self._arrived.popleft()
                if not ticket.is_cancelled:
                    taken.append(ticket)
        return taken

    def _join(self, tickets: list[Ticket]) -> None:
        if self._album.size >= IMAGES_OF_AN_ALBUM:
            self._album = Album(self.session.model, self.session.processor)
        rows: dict[Row, Ticket] = {}
        for ticket in tickets:
            try:
                rows[row_of(self._album, ticket.example, ticket.decoding)] = ticket
            except MmmedError as error:
                ticket.inbox.put(error)
        fitting = self._fitting(rows)
        if not fitting:
            return
        try:
            self._running.join(list(fitting), self._album)
        except Exception as error:
            if len(fitting) == 1:
                _fail(next(iter(fitting.values())), error)
                return
            # One unreadable picture must not cost the others their answer: each is tried alone.
            for ticket in fitting.values():
                self._join([ticket])
            return
        tokenizer = self.session.processor.prompt.tokenizer
        now = time.monotonic()
        for row, ticket in fitting.items():
            ticket.begun = now
            self._tickets[row] = (ticket, Spelling(tokenizer, ticket.decoding.stop))

    def _fitting(self, rows: dict[Row, Ticket]) -> dict[Row, Ticket]:
        """Those for whose keys and values there is room now; the others go back to the head of the queue."""
        lengths = [len(row.sequence) + len(row.written) + row.left for row in self._running.rows]
        fitting: dict[Row, Ticket] = {}
        back: list[Ticket] = []
        for row, ticket in rows.items():
            longest = max([*lengths, len(row.sequence) + row.left])
            if back or ((len(lengths) + 1) * longest > self.capacity.tokens and lengths):
                back.append(ticket)
            else:
                lengths.append(len(row.sequence) + row.left)
                fitting[row] = ticket
        with self._changed:
            self._arrived.extendleft(reversed(back))
        return fitting

    def _write(self) -> None:
        try:
            ended = self._running.step()
        except Exception as error:
            for ticket, _ in self._tickets.values():
                _fail(ticket, error)
            self._tickets.clear()
            self._running = RunningBatch(self.session.model, self.session.processor)
            return
        self.written_tokens += len(self._tickets)
        for row in ended:
            self._close(row, "stop" if self._is_whole(row) else "length")
        for row, (ticket, spelling) in self._tickets.items():
            if piece := spelling.more(row.written):
                ticket.inbox.put(Piece(piece))

    def _is_whole(self, row: Row) -> bool:
        tokenizer = self.session.processor.prompt.tokenizer
        is_ended: bool = row.written[-1] == tokenizer.eos_token_id
        return is_ended or is_stopped(tokenizer, row.written, row.decoding.stop)

    def _close(self, row: Row, why: Why) -> None:
        ticket, spelling = self._tickets.pop(row)
        text = text_of(self.session.processor.prompt.tokenizer, row.written, row.decoding.stop)
        if piece := spelling.rest(text):
            ticket.inbox.put(Piece(piece))
        ticket.inbox.put(
            Ended(
                text=text,
                why=why,
                asked_tokens=len(row.sequence),
                tokens=len(row.written),
                log_likelihood=row.log_likelihood,
                waited_s=(ticket.begun or ticket.since) - ticket.since,
            )
        )

    def _end(self) -> None:
        with self._changed:
            waiting = [*self._arrived, *(ticket for ticket, _ in self._tickets.values())]
            self._arrived.clear()
            work = list(self._work)
            self._work.clear()
        self._tickets.clear()
        for ticket in waiting:
            ticket.inbox.put(Closed("the server is ending; ask again when it is back"))
        for _, done in work:
            done.cancel()


def _carry_out(work: Callable[[], Any], done: Future[Any]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)


def _fail(ticket: Ticket, error: Exception) -> None:
    if not isinstance(error, MmmedError):
        # Its message may quote what was asked.
        logger.error("defect while answering: %s", type(error).__name__)
    ticket.inbox.put(error)
