import pytest

from mmmed.data.choice import by_letter, choice, lettered
from mmmed.errors import RecordError


def test_the_answer_is_the_text_of_the_right_option() -> None:
    assert choice(["a  lung", "heart", "liver"], right=0) == (("a lung", "heart", "liver"), "a lung")


@pytest.mark.parametrize(
    ("texts", "right", "message"),
    [
        (["4.6", "4.6 ", "4.61"], 2, "the option '4.6' stands twice"),
        (["a", " "], 0, "1 of 2 options are filled"),
        (["a"], 0, "1 of 1 options are filled; expected two or more"),
        (["a", "b"], 2, "the answer is option 3 of 2"),
        (["a", "b"], -1, "the answer is option 0 of 2"),
    ],
)
def test_questions_that_cannot_be_scored_are_refused(texts: list[str], right: int, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        choice(texts, right=right)


def test_letters_give_places_and_order() -> None:
    assert (by_letter("c", 4), lettered({"B": "two", "A": "one"})) == (2, ["one", "two"])
    for letter in ("E", "", "AB", "1"):
        with pytest.raises(RecordError, match="expected one of the letters A, B, C, D"):
            by_letter(letter, 4)
    with pytest.raises(RecordError, match="the options are named '0', 'B'"):
        lettered({"B": "two", "0": "one"})
    with pytest.raises(RecordError, match="'B' is None; expected text"):
        lettered({"A": "two", "B": None})
    with pytest.raises(RecordError, match="'A' holds half a character"):
        lettered({"A": "\ud800", "B": "two"})
