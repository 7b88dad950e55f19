"""Finds what was altered behind the back of the store: events, drafts, pictures, and what was let out."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, select

from mmmed.errors import SignoffError
from mmmed.serving.database.engine import reading
from mmmed.serving.desk.chain import START, chain_key
from mmmed.serving.desk.draft import Picture
from mmmed.serving.desk.history import SEEN, digest_of, facts_of, steps_of
from mmmed.serving.desk.outbox import FINAL, PRELIMINARY, WAITING, WITHDRAWN
from mmmed.serving.desk.states import Standing, State, fold
from mmmed.serving.desk.tables import DRAFTS, EVENTS, OUTBOX, PICTURES


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Args:
        events: How many there are.
        drafts: Of how many drafts.
        head: Digest of the last one; noted elsewhere, it proves later that nothing before it was altered.
        faults: What does not fit, each a line without patients' words; empty for an intact history.
    """

    events: int
    drafts: int
    head: str
    faults: tuple[str, ...]


def verify(engine: Engine, *, head: str | None = None) -> Verification:
    """Check the whole history.

    Args:
        engine: The database.
        head: Digest of a last event as it was noted once; it must still be there.
    """
    key = chain_key()
    faults: list[str] = []
    by_draft: dict[str, list[Any]] = defaultdict(list)
    previous, count, seen_head = START, 0, head is None
    with reading(engine) as connection:
        for count, row in enumerate(connection.execute(select(EVENTS).order_by(EVENTS.c.sequence)), start=1):
            if row.sequence != count and not faults:
                faults.append(f"event {count} is missing: the next one is {row.sequence}")
            if row.previous != previous:
                faults.append(f"event {row.sequence} does not follow the one before it")
            if row.digest != digest_of(row, row.previous, key=key):
                faults.append(f"event {row.sequence} was altered, or made with another key")
            previous = row.digest
            seen_head = seen_head or row.digest == head
            by_draft[row.draft].append(row)
        if not seen_head:
            faults.append("the noted head is not in the history: its end was cut off, or all of it was made anew")
        faults += _faults_of_drafts(connection, by_draft)
    return Verification(count, len(by_draft), previous, tuple(faults))


def _faults_of_drafts(connection: Connection, by_draft: dict[str, list[Any]]) -> Iterator[str]:
    standings: dict[str, Standing] = {}
    pictures: dict[str, tuple[str, ...]] = {}
    for id, rows in by_draft.items():
        try:
            standings[id] = fold(steps_of(rows))
            pictures[id] = facts_of(rows[0]).pictures
        except (SignoffError, ValueError, KeyError, TypeError):
            yield f"draft {id}: its events are none that the rules allow"
    numbers = {id: [row.number for row in rows if row.act != SEEN] for id, rows in by_draft.items()}
    yield from (f"draft {id}: a step is missing" for id, own in numbers.items() if own != list(range(1, len(own) + 1)))
    kept = {row.id: row for row in connection.execute(select(DRAFTS))}
    yield from (f"draft {id} has no event" for id in kept.keys() - by_draft.keys())
    yield from (f"draft {id} is missing from the list" for id in by_draft.keys() - kept.keys())
    for id, standing in standings.items():
        told = (str(standing.state), standing.steps, standing.approved_by)
        if id in kept and (kept[id].state, kept[id].steps, kept[id].approved_by) != told:
            yield f"draft {id} is listed as {kept[id].state} after {kept[id].steps} steps; its events say otherwise"
    yield from _faults_of_pictures(connection, pictures)
    for row in connection.execute(select(OUTBOX)):
        if not _may_leave(standings.get(row.draft), row.kind, row.state):
            yield f"draft {row.draft} is let out as {row.kind}, which its events do not allow"


def _may_leave(standing: Standing | None, kind: str, state: str) -> bool:
    if standing is None:
        return False
    match standing.state:
        case State.SIGNED:
            return kind == FINAL or (kind == PRELIMINARY and state != WAITING)
        case State.REJECTED:
            return kind == WITHDRAWN or (kind == PRELIMINARY and state != WAITING)
    return kind == PRELIMINARY


def _faults_of_pictures(connection: Connection, expected: dict[str, tuple[str, ...]]) -> Iterator[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(select(PICTURES).order_by(PICTURES.c.draft, PICTURES.c.number)):
        found[row.draft].append(Picture(bytes(row.shown), bytes(row.header)).digest)
    for id, digests in expected.items():
        if tuple(found[id]) != digests:
            yield f"draft {id}: its pictures are not those that were handed in"
