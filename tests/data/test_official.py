import pytest

from mmmed.data.official import HeldOut
from mmmed.errors import RecordError


def test_what_is_tested_on_is_refused_in_training_and_named() -> None:
    held_out = HeldOut("question")
    assert held_out.admit("a", split="test", name="test-1") == "test-1"
    assert held_out.admit("b", split="train", name="train-1") == "train-1"
    with pytest.raises(RecordError, match=r"its question stands in the official test split as well \(test-1\)"):
        held_out.admit("a", split="train", name="train-2")


def test_repeats_within_a_split_carry_the_name_of_the_first() -> None:
    held_out = HeldOut("question")
    names = [held_out.admit("a", split="train", name=name) for name in ("first", "second", "third")]
    assert names == ["first"] * 3
