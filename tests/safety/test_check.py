"""Few questions are asked about many patients rather than many about few."""

from collections import Counter

from mmmed.records import Example
from mmmed.safety.check import spread


def test_questions_are_spread_over_patients_and_topics(films: list[Example]) -> None:
    patients = {one.patient for one in films}
    topics = {one.topic for one in films}
    some = spread(films, limit=len(patients))
    assert {one.patient for one in some} == patients
    assert {one.topic for one in some} == topics
    more = spread(films, limit=len(patients) + 5)
    assert more[: len(some)] == some
    assert max(Counter(one.patient for one in more).values()) == 2
    assert len({one.id for one in spread(films, limit=10_000)}) == len(films)
    assert spread([], limit=3) == []


def test_one_question_a_patient_stays_in_order(films: list[Example]) -> None:
    single = list({one.patient: one for one in films}.values())
    assert spread(single, limit=7) == single[:7]
