"""Only what was signed, or is marked as preliminary, leaves; and it arrives once, whoever is killed when."""

from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from mmmed.errors import DataError
from mmmed.serving.database.engine import reading, writing
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.tables import OUTBOX
from mmmed.serving.hospital.delivery import LEASE, Courier
from mmmed.serving.hospital.result import Result

from ..conftest import Hands
from ..desk.conftest import request
from .conftest import ANNA, BETTER, TEXT

Sign = Callable[[Desk, str], None]
HandIn = Callable[..., str]


class Killed(BaseException):
    """The process is gone."""


class Box:
    """A destination that keeps what arrives by its identifier, and fails when told to."""

    def __init__(self) -> None:
        self.kept: dict[str, Result] = {}
        self.fails: list[BaseException] = []
        self.sent = 0

    def send(self, result: Result) -> None:
        self.sent += 1
        if self.fails and not isinstance(self.fails[0], Killed):
            raise self.fails.pop(0)
        self.kept[str(result.uuid("report"))] = result
        if self.fails:
            raise self.fails.pop(0)


def states(desk: Desk) -> list[tuple[str, str]]:
    with reading(desk.engine) as connection:
        return [(row.kind, row.state) for row in connection.execute(select(OUTBOX).order_by(OUTBOX.c.number))]


@pytest.fixture
def box() -> Box:
    return Box()


def test_what_was_signed_arrives(make_desk: Callable[..., Desk], hand_in: HandIn, sign: Sign, box: Box) -> None:
    desk = make_desk()
    id = hand_in(desk)
    courier = Courier(desk, {"fhir": box, "dicom": Box()})
    assert courier.deliver() == 0
    sign(desk, id)
    assert courier.deliver() == 2
    assert courier.deliver() == 0
    (result,) = box.kept.values()
    assert (result.kind, result.text, result.is_amended) == ("final", BETTER, True)
    assert [signer.full_name for signer in result.signers] == ["Arzt^Anna"]


def test_a_killed_courier_is_followed_by_another_and_the_result_is_there_once(
    make_desk: Callable[..., Desk], hand_in: HandIn, sign: Sign, box: Box, hands: Hands
) -> None:
    desk = make_desk(destinations=("fhir",))
    sign(desk, hand_in(desk))
    box.fails = [Killed()]
    with pytest.raises(Killed):
        Courier(desk, {"fhir": box}).deliver()
    assert states(desk) == [("final", "waiting")]
    again = Courier(desk, {"fhir": box})
    assert again.deliver() == 0, "somebody may still be sending it"
    hands.pass_(seconds=LEASE.total_seconds() + 1)
    assert again.deliver() == 1
    assert (len(box.kept), box.sent) == (1, 2)


def test_a_server_that_is_away_is_tried_again_later_and_later(
    make_desk: Callable[..., Desk], hand_in: HandIn, sign: Sign, box: Box, hands: Hands
) -> None:
    desk = make_desk(destinations=("fhir",))
    sign(desk, hand_in(desk))
    box.fails = [DataError("the server is away"), ConnectionResetError("secret of a patient"), DataError("away")]
    courier = Courier(desk, {"fhir": box})
    for wait in (30, 60, 120):
        assert courier.deliver() == 0
        hands.pass_(seconds=wait - 1)
        assert courier.deliver() == 0
        hands.pass_(seconds=2)
    assert courier.deliver() == 1
    with reading(desk.engine) as connection:
        told = connection.execute(select(OUTBOX.c.told)).scalars().all()
    assert told == [""]


def test_a_rejected_draft_never_leaves_even_if_the_outbox_says_so(
    make_desk: Callable[..., Desk], hand_in: HandIn, box: Box
) -> None:
    desk = make_desk(preliminary=True, destinations=("fhir",))
    id = hand_in(desk)
    desk.take(id, by=ANNA, request=request())
    desk.reject(id, "wrong side", by=ANNA, request=request())
    courier = Courier(desk, {"fhir": box})
    assert courier.deliver() == 0
    with writing(desk.engine) as connection:
        connection.execute(update(OUTBOX).values(state="waiting", kind="final"))
    assert courier.deliver() == 0
    assert box.sent == 0
    assert states(desk) == [("final", "dropped")]


def test_a_preliminary_result_that_left_is_called_back_without_its_text(
    make_desk: Callable[..., Desk], hand_in: HandIn, box: Box
) -> None:
    desk = make_desk(preliminary=True, destinations=("fhir",))
    id = hand_in(desk)
    courier = Courier(desk, {"fhir": box})
    assert courier.deliver() == 1
    assert next(iter(box.kept.values())).text == TEXT
    desk.take(id, by=ANNA, request=request())
    desk.reject(id, "wrong side", by=ANNA, request=request())
    assert courier.deliver() == 1
    (result,) = box.kept.values()
    assert (result.kind, result.text) == ("withdrawn", "")


def test_a_final_result_does_not_overtake_a_preliminary_one_that_may_be_on_its_way(
    make_desk: Callable[..., Desk], hand_in: HandIn, sign: Sign, box: Box, hands: Hands
) -> None:
    desk = make_desk(preliminary=True, destinations=("fhir",))
    id = hand_in(desk)
    box.fails = [Killed()]
    with pytest.raises(Killed):
        Courier(desk, {"fhir": box}).deliver()
    sign(desk, id)
    assert Courier(desk, {"fhir": box}).deliver() == 0
    hands.pass_(seconds=LEASE.total_seconds())
    assert Courier(desk, {"fhir": box}).deliver() == 1
    assert states(desk) == [("preliminary", "dropped"), ("final", "sent")]


def test_a_draft_without_a_study_goes_to_the_record_alone(
    make_desk: Callable[..., Desk], hand_in: HandIn, sign: Sign, box: Box
) -> None:
    desk = make_desk()
    sign(desk, hand_in(desk, dicom=False))
    with reading(desk.engine) as connection:
        assert connection.execute(select(OUTBOX.c.destination)).scalars().all() == ["fhir"]
