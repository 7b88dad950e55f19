"""One person at a time has a draft, each step is kept once, and only what was signed leaves."""

import random
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import select

from mmmed.errors import SignoffError
from mmmed.serving.accounts.user import Role, User
from mmmed.serving.database.engine import reading
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.states import State
from mmmed.serving.desk.tables import EVENTS, OUTBOX
from mmmed.serving.desk.verification import verify

from ..conftest import EACH, PEOPLE, Hands
from .conftest import TEXT, draft, request

RITA, ANNA, BERT, ADAM = PEOPLE
BETTER = "Small left pleural effusion."


def leaving(desk: Desk) -> list[tuple[str, str, str]]:
    with reading(desk.engine) as connection:
        rows = connection.execute(select(OUTBOX).order_by(OUTBOX.c.number))
        return [(row.kind, row.destination, row.state) for row in rows]


@EACH
def test_a_draft_goes_its_way_and_leaves_when_it_is_signed(desk: Desk) -> None:
    id = desk.hand_in(draft(), by="rita", request=request())
    desk.take(id, by=ANNA, request=request())
    desk.amend(id, BETTER, by=ANNA, request=request(), reason="overlooked")
    assert leaving(desk) == []
    desk.sign(id, by=ANNA, request=request())
    opened = desk.look(id, by=RITA)
    assert opened.standing.state is State.SIGNED
    assert (opened.standing.drafted, opened.standing.text) == (TEXT, BETTER)
    assert [event.act for event in opened.history] == ["drafted", "taken", "amended", "signed"]
    assert opened.history[-1].full_name == "Arzt^Anna"
    assert desk.open(id).history[-1].act == "seen"
    assert desk.picture(id, 0).shown == b"png"
    assert leaving(desk) == [("final", "dicom", "waiting"), ("final", "fhir", "waiting")]
    assert verify(desk.engine).faults == ()


@EACH
def test_what_is_sent_twice_is_done_once(desk: Desk) -> None:
    first, taken, amended, signed = request(), request(), request(), request()
    id = desk.hand_in(draft(), by="rita", request=first)
    assert desk.hand_in(draft(), by="rita", request=first) == id
    for _ in range(2):
        desk.take(id, by=ANNA, request=taken)
    for _ in range(2):
        desk.amend(id, BETTER, by=ANNA, request=amended, steps=2)
    for _ in range(2):
        desk.sign(id, by=ANNA, request=signed, steps=3)
    assert len(desk.open(id).history) == 4
    assert len(leaving(desk)) == 2
    with pytest.raises(SignoffError, match="belongs to another draft"):
        desk.take(desk.hand_in(draft(), by="rita", request=request()), by=ANNA, request=signed)


def test_who_has_a_draft_has_it_alone_until_the_time_is_over(desk: Desk, hands: Hands) -> None:
    id = desk.hand_in(draft(), by="rita", request=request())
    desk.take(id, by=ANNA, request=request())
    with pytest.raises(SignoffError, match="in review by anna; take another one"):
        desk.take(id, by=BERT, request=request())
    with pytest.raises(SignoffError, match="in review by anna"):
        desk.sign(id, by=BERT, request=request())
    hands.pass_(minutes=14)
    desk.amend(id, BETTER, by=ANNA, request=request())
    hands.pass_(minutes=14)
    assert desk.queue()[0].holder == "anna", "each step gives more time"
    hands.pass_(minutes=2)
    assert desk.queue()[0].holder == ""
    with pytest.raises(SignoffError, match="the time for this review is over"):
        desk.sign(id, by=ANNA, request=request())
    desk.take(id, by=BERT, request=request())
    with pytest.raises(SignoffError, match="in review by bert"):
        desk.sign(id, by=ANNA, request=request())
    desk.sign(id, by=BERT, request=request())
    assert desk.open(id).standing.signed_by == ("bert",)
    assert verify(desk.engine).faults == ()


def test_a_page_that_is_out_of_date_signs_nothing(desk: Desk) -> None:
    id = desk.hand_in(draft(), by="rita", request=request())
    desk.take(id, by=ANNA, request=request())
    desk.amend(id, BETTER, by=ANNA, request=request(), steps=2)
    with pytest.raises(SignoffError, match="changed since this page was loaded"):
        desk.sign(id, by=ANNA, request=request(), steps=2)
    assert not desk.open(id).standing.is_final


@pytest.mark.parametrize("person", [RITA, ADAM, User("emil", "Eins^Emil", "", Role.RADIOLOGIST, active=False)])
def test_only_radiologists_review(desk: Desk, person: User) -> None:
    id = desk.hand_in(draft(), by="rita", request=request())
    with pytest.raises(SignoffError, match="only a radiologist reviews"):
        desk.take(id, by=person, request=request())


def test_two_people_sign_where_two_must(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(two_people=True, destinations=("fhir",))
    id = desk.hand_in(draft(), by="rita", request=request())
    desk.take(id, by=ANNA, request=request())
    desk.approve(id, by=ANNA, request=request())
    assert leaving(desk) == []
    assert desk.queue()[0].approved_by == "anna"
    desk.take(id, by=ANNA, request=request())
    with pytest.raises(SignoffError, match="another person's"):
        desk.sign(id, by=ANNA, request=request())
    desk.give_back(id, by=ANNA, request=request())
    desk.take(id, by=BERT, request=request())
    desk.sign(id, by=BERT, request=request())
    assert desk.open(id).standing.signed_by == ("anna", "bert")
    assert leaving(desk) == [("final", "fhir", "waiting")]
    assert verify(desk.engine).faults == ()


def test_a_rejected_draft_never_leaves(desk: Desk) -> None:
    id = desk.hand_in(draft(), by="rita", request=request())
    desk.take(id, by=ANNA, request=request())
    desk.reject(id, "wrong patient", by=ANNA, request=request())
    assert leaving(desk) == []
    with pytest.raises(SignoffError, match="is rejected already"):
        desk.take(id, by=BERT, request=request())
    assert [one.state for one in desk.done()] == ["rejected"]


def test_a_preliminary_draft_is_dropped_or_called_back_when_it_is_rejected(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(preliminary=True, destinations=("fhir",))
    id = desk.hand_in(draft(), by="rita", request=request())
    desk.take(id, by=ANNA, request=request())
    desk.reject(id, "wrong patient", by=ANNA, request=request())
    assert leaving(desk) == [("preliminary", "fhir", "dropped")]
    assert verify(desk.engine).faults == ()


def test_the_queue_begins_with_what_may_harm_most(desk: Desk) -> None:
    numbers = [(0.1, 1.0), (0.9, 1.0), (0.5, 4.0), (0.0, 9.0)]
    for uncertainty, harm in numbers:
        desk.hand_in(draft(f"{uncertainty} {harm}", uncertainty=uncertainty, harm=harm), by="rita", request=request())
    assert [one.priority for one in desk.queue()] == [2.0, 0.9, 0.1, 0.0]


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"text": " "}, "is empty"),
        ({"uncertainty": 1.5}, "uncertainty is 1.5; expected 0 to 1"),
        ({"uncertainty": float("nan")}, "uncertainty is nan"),
        ({"harm": float("inf")}, "harm is inf"),
        ({"text": "x" * 50_001}, "more than 50000"),
    ],
)
def test_a_draft_that_cannot_be_judged_is_refused(told: dict[str, object], complaint: str) -> None:
    with pytest.raises(SignoffError, match=complaint):
        draft(**told)  # type: ignore[arg-type]


@EACH
def test_of_many_who_take_and_sign_at_once_one_does(desk: Desk) -> None:
    ids = [desk.hand_in(draft(str(place)), by="rita", request=request()) for place in range(6)]
    people = [User(f"person{place}", f"Person^{place}", "", Role.RADIOLOGIST) for place in range(6)]
    signed: list[tuple[str, str]] = []
    faults: list[BaseException] = []

    def work(person: User) -> None:
        try:
            for id in random.Random(person.name).sample(ids, len(ids)):
                try:
                    desk.take(id, by=person, request=request())
                    desk.sign(id, by=person, request=request())
                    signed.append((id, person.name))
                except SignoffError:
                    pass
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sorted(id for id, _ in signed) == sorted(ids)
    assert dict(signed) == {id: desk.open(id).standing.signed_by[0] for id in ids}
    with reading(desk.engine) as connection:
        acts = connection.execute(select(EVENTS.c.act)).scalars().all()
    assert acts.count("signed") == len(ids)
    assert verify(desk.engine).faults == ()
