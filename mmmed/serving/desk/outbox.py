"""What may leave: entries are made in the transaction of the step that allows it, and in no other way."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from mmmed.serving.desk.tables import OUTBOX

PRELIMINARY, FINAL, WITHDRAWN = "preliminary", "final", "withdrawn"
WAITING, SENT, DROPPED = "waiting", "sent", "dropped"


def put_preliminary(connection: Connection, draft: str, destinations: Sequence[str], *, at: str) -> None:
    """Let an unsigned draft leave, marked as such."""
    for destination in destinations:
        _put(connection, draft, PRELIMINARY, destination, at)


def put_final(connection: Connection, draft: str, destinations: Sequence[str], *, at: str) -> None:
    """Let a signed report leave; a preliminary one that has not left is out of date."""
    _drop(connection, draft)
    for destination in destinations:
        _put(connection, draft, FINAL, destination, at)


def withdraw(connection: Connection, draft: str, *, at: str) -> None:
    """Keep a rejected draft from leaving; where a preliminary one may have left, call it back."""
    left = select(OUTBOX.c.destination).where(
        OUTBOX.c.draft == draft, OUTBOX.c.kind == PRELIMINARY, OUTBOX.c.attempts > 0
    )
    destinations = connection.execute(left).scalars().all()
    _drop(connection, draft)
    for destination in destinations:
        _put(connection, draft, WITHDRAWN, destination, at)


def _drop(connection: Connection, draft: str) -> None:
    waiting = (OUTBOX.c.draft == draft, OUTBOX.c.kind == PRELIMINARY, OUTBOX.c.state == WAITING)
    connection.execute(update(OUTBOX).where(*waiting).values(state=DROPPED))


def _put(connection: Connection, draft: str, kind: str, destination: str, at: str) -> None:
    row = {"draft": draft, "kind": kind, "destination": destination, "state": WAITING}
    connection.execute(insert(OUTBOX).values(row | {"attempts": 0, "due_at": at, "told": ""}))
