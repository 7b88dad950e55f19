"""What is altered behind the store's back is found, whatever it is; an intact history is not suspected."""

import json

import pytest
from sqlalchemy import Connection, Engine, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from mmmed.errors import ConfigError
from mmmed.serving.database.engine import writing
from mmmed.serving.desk.chain import KEY, START, link
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.history import Entry
from mmmed.serving.desk.tables import DRAFTS, EVENTS, OUTBOX, PICTURES
from mmmed.serving.desk.verification import verify

from ..conftest import EACH, PEOPLE
from .conftest import draft, request

_, ANNA, BERT, _ = PEOPLE


@pytest.fixture
def history(desk: Desk) -> Desk:
    """One draft signed, one rejected, one open."""
    signed, rejected, _ = (desk.hand_in(draft(str(place)), by="rita", request=request()) for place in range(3))
    desk.take(signed, by=ANNA, request=request())
    desk.amend(signed, "Other.", by=ANNA, request=request())
    desk.sign(signed, by=ANNA, request=request())
    desk.take(rejected, by=BERT, request=request())
    desk.reject(rejected, "wrong side", by=BERT, request=request())
    desk.look(signed, by=BERT)
    return desk


def unguard(connection: Connection) -> None:
    """Take the triggers away, as one who owns the database can."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE events DISABLE TRIGGER ALL"))
        return
    names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
    for name in names:
        connection.execute(text(f"DROP TRIGGER {name}"))


@EACH
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'bert' WHERE act = 'signed'",
        "DELETE FROM events WHERE act = 'seen'",
        "DELETE FROM events",
    ],
)
def test_the_database_itself_refuses_to_change_events(history: Desk, statement: str) -> None:
    with pytest.raises(DBAPIError, match="events can only be added to"), writing(history.engine) as connection:
        connection.execute(text(statement))
    assert verify(history.engine).faults == ()


def test_the_database_refuses_to_replace_an_event(history: Desk) -> None:
    copy = "INSERT OR REPLACE INTO events SELECT sequence, draft, number, act, 'bert', at, content, request, previous, "
    with pytest.raises(DBAPIError, match="events can only be added to"), writing(history.engine) as connection:
        connection.execute(text(copy + "digest FROM events WHERE act = 'signed'"))


@EACH
def test_the_database_refuses_a_second_end(history: Desk) -> None:
    with pytest.raises(DBAPIError, match=r"one_end|UNIQUE"), writing(history.engine) as connection:
        last = connection.execute(select(EVENTS).order_by(EVENTS.c.sequence.desc()).limit(1)).one()
        row = last._asdict() | {"sequence": last.sequence + 1, "number": 9, "act": "rejected"}
        connection.execute(insert(EVENTS).values(row | {"previous": last.digest, "digest": "f" * 64}))


TAMPERING = {
    "another signer": lambda c: c.execute(update(EVENTS).where(EVENTS.c.act == "signed").values(actor="bert")),
    "another time": lambda c: c.execute(update(EVENTS).where(EVENTS.c.act == "signed").values(at="2020")),
    "another text": lambda c: c.execute(
        update(EVENTS).where(EVENTS.c.act == "amended").values(content=json.dumps({"text": "Normal."}))
    ),
    "an event of another draft": lambda c: c.execute(
        update(EVENTS).where(EVENTS.c.act == "seen").values(draft="f" * 32)
    ),
    "a step taken out": lambda c: c.execute(delete(EVENTS).where(EVENTS.c.act == "amended")),
    "a look taken out": lambda c: c.execute(delete(EVENTS).where(EVENTS.c.act == "seen")),
    "the signature taken out": lambda c: c.execute(delete(EVENTS).where(EVENTS.c.act == "signed")),
    "the first event taken out": lambda c: c.execute(delete(EVENTS).where(EVENTS.c.sequence == 1)),
    "a state": lambda c: c.execute(update(DRAFTS).where(DRAFTS.c.state == "rejected").values(state="signed")),
    "a picture": lambda c: c.execute(update(PICTURES).values(shown=b"another film")),
    "a header": lambda c: c.execute(update(PICTURES).values(header=b"another patient")),
    "a rejected draft let out": lambda c: c.execute(
        insert(OUTBOX).values(
            draft=c.execute(select(DRAFTS.c.id).where(DRAFTS.c.state == "rejected")).scalar_one(),
            kind="final",
            destination="fhir",
            state="waiting",
            attempts=0,
            due_at="2026",
            told="",
        )
    ),
    "a draft out of nothing": lambda c: c.execute(
        insert(DRAFTS).values(
            id="f" * 32, made_at="2026", state="signed", steps=3, approved_by="", question="", priority=0
        )
    ),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_is_found(history: Desk, what: str) -> None:
    head = verify(history.engine).head
    with writing(history.engine) as connection:
        unguard(connection)
        TAMPERING[what](connection)
    faults = verify(history.engine, head=head).faults
    assert faults
    assert all("\n" not in fault and "Other" not in fault for fault in faults)


@EACH
def test_the_end_cut_off_is_found_by_a_noted_head(history: Desk) -> None:
    head = verify(history.engine).head
    with writing(history.engine) as connection:
        unguard(connection)
        connection.execute(delete(EVENTS).where(EVENTS.c.act == "seen"))
    assert verify(history.engine).faults == (), "nothing follows the last event"
    assert "noted head is not in the history" in verify(history.engine, head=head).faults[0]


def rewrite(engine: Engine) -> None:
    """Change who signed and compute the chain anew, as one who owns the database and has read this code."""
    with writing(engine) as connection:
        unguard(connection)
        rows = connection.execute(select(EVENTS).order_by(EVENTS.c.sequence)).all()
        connection.execute(delete(EVENTS))
        previous = START
        for row in rows:
            entry = {name: getattr(row, name) for name in ("sequence", *Entry._fields)}
            if row.actor == "anna":
                entry["actor"] = "bert"
            digest = link(previous, entry)
            connection.execute(insert(EVENTS).values(entry | {"previous": previous, "digest": digest}))
            previous = digest


def test_a_whole_new_chain_is_found_by_a_noted_head(history: Desk) -> None:
    head = verify(history.engine).head
    rewrite(history.engine)
    assert verify(history.engine).faults == (), "without a head or a key it cannot be told"
    assert verify(history.engine, head=head).faults


def test_a_whole_new_chain_is_found_by_the_key(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "a key that lies in a safe place")
    desk = Desk(engine)
    id = desk.hand_in(draft(), by="rita", request=request())
    desk.take(id, by=ANNA, request=request())
    assert verify(engine).faults == ()
    rewrite(engine)
    assert "made with another key" in verify(engine).faults[0]


def test_a_key_that_can_be_guessed_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    with pytest.raises(ConfigError, match="has 6 characters; expected at least 24"):
        Desk(engine)
