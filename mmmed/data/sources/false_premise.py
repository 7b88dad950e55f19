"""Questions about drugs, signs and diseases that do not exist, each with a twin about one that does."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import yaml

from mmmed.data.question import about_text
from mmmed.records import Example, Quarantined

FAKE, REAL = "fake", "real"
NOTHING = "There is no such thing"
"""The right answer about what does not exist, and a wrong one about what does."""

_FILE = "false_premises.yaml"


class _Twins(NamedTuple):
    """One form of question, and what it is asked about."""

    form: str
    real: str
    fake: str
    answer: str
    others: list[str]


class FalsePremise:
    """Makes the questions of a list that comes with the project; all are for testing.

    Both twins have the same options, in the same order, "there is no such thing" among them. Who always says so is
    right about all that does not exist and wrong about all that does. The topics are `fake` and `real`, and twins go by
    one patient, so that intervals take them together.
    """

    name = "false_premise"

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions in the order of the list, the real one of two twins first; nothing is set aside."""
        for number, twins in enumerate(_twins()):
            options = sorted((twins.answer, *twins.others))
            # So that no place is always right, "no such thing" wanders from first to last.
            options.insert(number % (len(options) + 1), NOTHING)
            for topic, thing, answer in ((REAL, twins.real, twins.answer), (FAKE, twins.fake, NOTHING)):
                yield Example(
                    id=f"{number:02}:{topic}",
                    patient=f"{number:02}",
                    turns=about_text(twins.form.format(thing=thing), answer),
                    options=tuple(options),
                    topic=topic,
                    split="test",
                    source=self.name,
                )


@cache
def _twins() -> tuple[_Twins, ...]:
    text = files("mmmed.data.sources").joinpath(_FILE).read_text(encoding="utf-8")
    return tuple(_Twins(**entry) for entry in yaml.safe_load(text))
