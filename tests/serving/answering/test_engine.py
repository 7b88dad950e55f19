"""Many are answered side by side as each would be alone; who is too many is told so; nobody waits for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mmmed.errors import ImageError, RecordError
from mmmed.inference.generation import Decoding
from mmmed.inference.session import Session
from mmmed.records import Example
from mmmed.serving.answering.engine import Capacity, Engine
from mmmed.serving.answering.spelling import Spelling
from mmmed.serving.answering.ticket import Ended, Piece, ThreadInbox, Ticket
from mmmed.serving.refusals import Busy, Closed


def ticket_of(example: Example, tokens: int = 6, **settings: Any) -> Ticket:
    return Ticket(example=example, decoding=Decoding(max_new_tokens=tokens, **settings), inbox=ThreadInbox())


def read(ticket: Ticket) -> tuple[str, Ended]:
    text = ""
    for event in ticket.inbox.events():  # type: ignore[attr-defined]
        if isinstance(event, Piece):
            text += event.text
        else:
            return text, event
    raise AssertionError("an answer ends")


def ask_all(engine: Engine, tickets: list[Ticket]) -> list[tuple[str, Ended]]:
    for ticket in tickets:
        engine.submit(ticket)
    return [read(ticket) for ticket in tickets]


@pytest.mark.parametrize(
    "capacity",
    [Capacity(), Capacity(rows=2), Capacity(joining=1), Capacity(tokens=130), Capacity(rows=1, joining=1)],
)
def test_many_are_answered_as_each_alone(session: Session, examples: list[Example], capacity: Capacity) -> None:
    lengths = [3, 9, 1, 6, 4, 8]
    alone = [session.write([one], max_new_tokens=n)[0].text for one, n in zip(examples, lengths, strict=True)]
    with Engine(session, capacity).answering() as engine:
        told = ask_all(engine, [ticket_of(one, n) for one, n in zip(examples, lengths, strict=True)])
        assert engine.load.writing == engine.load.waiting == engine.load.tokens == 0
    assert [ended.text for _, ended in told] == alone
    assert [text for text, _ in told] == alone, "the pieces are the whole"
    assert all(0 < ended.confidence <= 1 for _, ended in told)
    assert [ended.tokens for _, ended in told if ended.why == "length"] == [
        n for n, (_, ended) in zip(lengths, told, strict=True) if ended.why == "length"
    ]


def test_a_late_one_does_not_wait_for_a_long_answer(session: Session, examples: list[Example]) -> None:
    with Engine(session).answering() as engine:
        long = ticket_of(examples[0], 400)
        engine.submit(long)
        while not engine.load.writing:
            time.sleep(0.001)
        ((_, short),) = ask_all(engine, [ticket_of(examples[5], 2)])
        assert short.tokens <= 2
        assert engine.load.writing == 1, "the long one is still being written"
        long.cancel()
        assert read(long)[1].why == "cancelled"


def test_too_many_are_refused_and_the_end_leaves_nobody_waiting(session: Session, examples: list[Example]) -> None:
    engine = Engine(session, Capacity(waiting=2))
    with pytest.raises(Closed):
        engine.submit(ticket_of(examples[0]))
    hold = threading.Event()
    with engine.answering():
        held = engine.compute(lambda one: hold.wait(10))
        while not held.running():
            time.sleep(0.001)
        waiting = [ticket_of(examples[0], 50) for _ in range(2)]
        for ticket in waiting:
            engine.submit(ticket)
        with pytest.raises(Busy, match="2 questions wait already"):
            engine.submit(ticket_of(examples[0]))
        engine._is_ending = True
        hold.set()
    for ticket in waiting:
        with pytest.raises(Closed):
            read(ticket)


class Broken:
    name = "broken"

    def open(self) -> Any:
        raise ImageError("image broken is damaged; send another")


def test_one_broken_picture_costs_the_others_nothing(
    session: Session, examples: list[Example], make_example: Callable[..., Example]
) -> None:
    import dataclasses

    broken = dataclasses.replace(examples[0], images=(Broken(),))
    long = make_example("long", "left right " * 600, "yes")
    with Engine(session).answering() as engine:
        tickets = [ticket_of(one) for one in (examples[0], broken, long, examples[5])]
        for ticket in tickets:
            engine.submit(ticket)
        assert read(tickets[0])[1].text == session.write([examples[0]], max_new_tokens=6)[0].text
        with pytest.raises(ImageError, match="damaged"):
            read(tickets[1])
        with pytest.raises(RecordError, match="more than max_length"):
            read(tickets[2])
        assert read(tickets[3])[1].tokens > 0


def test_a_defect_is_told_to_those_it_hits_and_the_next_is_answered(
    session: Session, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(session).answering() as engine:
        with monkeypatch.context() as patch:
            patch.setattr(engine._running, "step", lambda: 1 / 0)
            ticket = ticket_of(examples[0])
            engine.submit(ticket)
            with pytest.raises(ZeroDivisionError):
                read(ticket)
        ((_, ended),) = ask_all(engine, [ticket_of(examples[0])])
        assert ended.text


def test_other_work_is_done_in_between_and_its_faults_are_told(session: Session, examples: list[Example]) -> None:
    closed = [one for one in examples if one.options]
    with Engine(session).answering() as engine:
        long = ticket_of(examples[0], 200)
        engine.submit(long)
        assert engine.compute(lambda one: one.choose(closed)).result(30) == session.choose(closed)
        with pytest.raises(ZeroDivisionError):
            engine.compute(lambda one: 1 / 0).result(30)
        long.cancel()


class Letters:
    """A tokenizer whose tokens are the bytes of UTF-8."""

    def decode(self, ids: list[int], **settings: Any) -> str:
        return bytes(ids).decode("utf-8", "replace")


@pytest.mark.parametrize("text", ["no effusion", "naïve ☃ 🫁 end", "a  b\n\nc"])
def test_pieces_never_hold_half_a_letter_and_join_to_the_whole(text: str) -> None:
    spelling, ids, pieces = Spelling(Letters(), ()), list(text.encode()), []
    for count in range(1, len(ids) + 1):
        pieces.append(spelling.more(ids[:count]))
    pieces.append(spelling.rest(text))
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_the_beginning_of_a_stop_is_held_back() -> None:
    spelling, text = Spelling(Letters(), ("\nUser:",)), "yes\nUseful\nUser: more"
    said = "".join(spelling.more(list(text.encode())[:count]) for count in range(1, len(text) + 1))
    assert said == "yes\nUseful"
