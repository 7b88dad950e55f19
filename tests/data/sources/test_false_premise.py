"""Twins differ in nothing but what is asked about, and no place of an option is always right."""

from collections import Counter

from mmmed.data.sources.false_premise import FAKE, NOTHING, REAL, FalsePremise
from mmmed.records import Example


def test_twins_have_the_same_options_and_other_answers() -> None:
    examples = [one for one in FalsePremise().records() if isinstance(one, Example)]
    pairs = list(zip(examples[::2], examples[1::2], strict=True))
    assert len(pairs) == 40
    for real, fake in pairs:
        assert (real.topic, fake.topic, real.patient) == (REAL, FAKE, fake.patient)
        assert real.options == fake.options
        assert (fake.reference, real.reference == NOTHING) == (NOTHING, False)
        assert real.question != fake.question
    assert len({one.question for one in examples}) == 80


def test_no_such_thing_stands_in_every_place() -> None:
    places = Counter(one.options.index(NOTHING) for one in FalsePremise().records() if isinstance(one, Example))
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) <= 2 * min(places.values())
