"""Carries results out of the outbox: each arrives once, also when the carrier or the server is killed in between."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, select, update

from mmmed.errors import DataError, MmmedError, SignoffError
from mmmed.serving.database.clock import written
from mmmed.serving.database.engine import writing
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.outbox import DROPPED, PRELIMINARY, SENT, WAITING
from mmmed.serving.desk.tables import OUTBOX
from mmmed.serving.hospital.result import Result, result_of

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
"""So long nobody else tries what somebody is trying; longer than any destination waits for an answer."""
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)


class Destination(Protocol):
    """Where results go. What is sent twice is there once."""

    def send(self, result: Result) -> None:
        """Send a result. Raises `DataError` where it did not arrive, for now."""
        ...


class Courier:
    """Sends what is due.

    An entry is leased before it is sent and marked as sent after. Killed in between, it is sent again when the lease is
    over; destinations find it there already. What leaves is read from the draft's events at that moment: what they do
    not allow is dropped, whatever the outbox says.

    Args:
        desk: Whose outbox it is.
        destinations: By the names in the outbox.
    """

    def __init__(self, desk: Desk, destinations: Mapping[str, Destination]) -> None:
        self._desk = desk
        self._destinations = destinations

    def deliver(self) -> int:
        """Send all that is due, and return how many arrived."""
        arrived = 0
        while (entry := self._lease()) is not None:
            arrived += self._try(entry)
        return arrived

    def _lease(self) -> Any:
        """The next entry that is due, which is ours for a while."""
        moment = self._desk.clock()
        due = select(OUTBOX).where(
            OUTBOX.c.state == WAITING,
            OUTBOX.c.due_at <= written(moment),
            OUTBOX.c.destination.in_(list(self._destinations)),
        )
        with writing(self._desk.engine) as connection:
            for row in connection.execute(due.order_by(OUTBOX.c.number)):
                if not _is_overtaking(connection, row, written(moment)):
                    leased = {"attempts": row.attempts + 1, "due_at": written(moment + LEASE)}
                    connection.execute(update(OUTBOX).where(OUTBOX.c.number == row.number).values(leased))
                    return row
        return None

    def _try(self, entry: Any) -> bool:
        try:
            result = result_of(self._desk, entry.draft, entry.kind)
            self._destinations[entry.destination].send(result)
        except SignoffError as error:
            logger.warning("draft %s is not sent as %s: %s", entry.draft, entry.kind, error)
            self._mark(entry, state=DROPPED, told=str(error)[:200])
            return False
        except (DataError, OSError) as error:
            told = str(error) if isinstance(error, MmmedError) else type(error).__name__
            wait = min(_FIRST_WAIT * 2 ** min(entry.attempts, 20), _LONGEST_WAIT)
            self._mark(entry, told=told[:200], due_at=written(self._desk.clock() + wait))
            return False
        self._mark(entry, state=SENT, told="")
        return True

    def _mark(self, entry: Any, **values: str) -> None:
        # What was dropped meanwhile, because the draft was signed or rejected, stays dropped.
        still = (OUTBOX.c.number == entry.number, OUTBOX.c.state == WAITING)
        with writing(self._desk.engine) as connection:
            connection.execute(update(OUTBOX).where(*still).values(values))


def _is_overtaking(connection: Connection, row: Any, moment: str) -> bool:
    """Whether a preliminary result of the same draft may still be on its way, and would arrive after this one."""
    if row.kind == PRELIMINARY:
        return False
    earlier = select(OUTBOX.c.number).where(
        OUTBOX.c.draft == row.draft,
        OUTBOX.c.destination == row.destination,
        OUTBOX.c.kind == PRELIMINARY,
        OUTBOX.c.state == DROPPED,
        OUTBOX.c.attempts > 0,
        OUTBOX.c.due_at > moment,
    )
    return connection.execute(earlier).first() is not None
