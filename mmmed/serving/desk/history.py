"""Reads and adds to the chained events, inside a transaction of whoever calls."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select

from mmmed.serving.desk.chain import START, link
from mmmed.serving.desk.draft import Event, Facts
from mmmed.serving.desk.states import Act, Step
from mmmed.serving.desk.tables import EVENTS

SEEN = "seen"


class Entry(NamedTuple):
    """What is added to the history."""

    draft: str
    number: int | None
    act: str
    actor: str
    at: str
    content: str
    request: str | None


def append(connection: Connection, entry: Entry, *, key: bytes) -> None:
    """Add an entry at the end of the chain."""
    head = select(EVENTS.c.sequence, EVENTS.c.digest).order_by(EVENTS.c.sequence.desc()).limit(1)
    last = connection.execute(head).first()
    sequence, previous = (last.sequence + 1, last.digest) if last else (1, START)
    row = entry._asdict() | {"sequence": sequence}
    connection.execute(insert(EVENTS).values(row | {"previous": previous, "digest": link(previous, row, key=key)}))


def digest_of(row: Any, previous: str, *, key: bytes) -> str:
    """What the digest of a row must be."""
    entry = {name: getattr(row, name) for name in ("sequence", *Entry._fields)}
    return link(previous, entry, key=key)


def rows_of(connection: Connection, draft: str) -> list[Any]:
    """All events of a draft, the oldest first."""
    return list(connection.execute(select(EVENTS).where(EVENTS.c.draft == draft).order_by(EVENTS.c.sequence)))


def steps_of(rows: Iterable[Any]) -> Iterator[Step]:
    """The events that change a draft, as the rules know them."""
    for row in rows:
        if row.act != SEEN:
            content = json.loads(row.content)
            told = {name: content.get(name, "") for name in ("text", "reason")}
            yield Step(act=Act(row.act), actor=row.actor, **told)


def event_of(row: Any) -> Event:
    """An event as a page shows it."""
    content = json.loads(row.content)
    told = {name: content.get(name, "") for name in ("text", "reason", "full_name", "identifier")}
    return Event(number=row.number, act=row.act, actor=row.actor, at=row.at, **told)


def facts_of(row: Any) -> Facts:
    """What was said of a draft when it was handed in, out of its first event."""
    facts = json.loads(row.content)["facts"]
    facts["pictures"] = tuple(facts["pictures"])
    return Facts(id=row.draft, made_at=row.at, made_by=row.actor, **facts)
