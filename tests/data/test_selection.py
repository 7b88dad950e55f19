from collections.abc import Iterator

import pytest

from mmmed.data.selection import LengthLimit, Redrawn, Reworded
from mmmed.data.splits import Fractions
from mmmed.errors import ConfigError
from mmmed.records import Example, Quarantined, Split, Turn


def example(number: int, split: Split, *, words: int = 1) -> Example:
    turns = (Turn("user", "Why? " * words), Turn("assistant", "So."))
    return Example(id=str(number), patient=f"p{number // 2}", turns=turns, split=split, source="medec")


class Listed:
    name = "medec"

    def __init__(self, *records: Example | Quarantined) -> None:
        self.listed = records

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self.listed


def test_what_is_too_long_is_set_aside_and_said() -> None:
    short, long = LengthLimit(Listed(example(0, "train"), example(1, "train", words=20)), characters=50).records()
    assert isinstance(short, Example) and short.id == "0"
    assert long == Quarantined("medec", "1", "103 characters, more than 50")


def test_one_split_is_drawn_anew_by_patient_and_the_others_stay_out() -> None:
    records = [example(number, "validation" if number < 60 else "test") for number in range(80)]
    found = [
        one
        for one in Redrawn(Listed(*records), split="validation", fractions=Fractions(0.5, 0.5, 0.0)).records()
        if isinstance(one, Example)
    ]
    assert [one.id for one in found] == [str(number) for number in range(60)]
    assert {one.split for one in found} == {"train", "validation"}
    assert len({(one.patient, one.split) for one in found}) == 30


def test_a_question_is_put_as_a_task_puts_it() -> None:
    (found,) = Reworded(Listed(example(0, "train")), prompt="{question}\nAnswer:").records()
    assert isinstance(found, Example)
    assert found.turns == (Turn("user", "Why? \nAnswer:"), Turn("assistant", "So."))


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ConfigError, match="length limit is 0"):
        LengthLimit(Listed(), characters=0)
    with pytest.raises(ConfigError, match="split is 'dev'"):
        Redrawn(Listed(), split="dev")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"expected \{question\}"):
        Reworded(Listed(), prompt="Answer:")
