"""The stretches of a difference make up both texts again."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mmmed.serving.desk.difference import Part, difference

WORDS = st.lists(st.sampled_from(["No", " ", "pleural", "effusion", ".", "\n", "5", "mm", "<b>", "ü"])).map("".join)


def test_the_words_that_changed_are_marked() -> None:
    assert difference("No left effusion.", "Small left effusion.") == (
        Part("gone", "No"),
        Part("new", "Small"),
        Part("same", " left effusion."),
    )


def test_words_that_all_changed_are_one_change() -> None:
    assert difference("aa bb cc.", "dd ee ff.") == (
        Part("gone", "aa bb cc"),
        Part("new", "dd ee ff"),
        Part("same", "."),
    )


@settings(deadline=None, max_examples=50)
@given(WORDS, WORDS)
def test_both_texts_can_be_read_from_it(before: str, after: str) -> None:
    parts = difference(before, after)
    assert "".join(part.text for part in parts if part.kind != "new") == before
    assert "".join(part.text for part in parts if part.kind != "gone") == after
