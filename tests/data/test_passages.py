import pytest

from mmmed.data.passages import passages


def test_a_short_text_is_one_passage() -> None:
    assert list(passages(" one two \n", longest=10)) == ["one two"]
    assert list(passages(" \n", longest=10)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aaaa. bbb\n\ncccc dddd", ["aaaa. bbb", "cccc dddd"]),
        ("aaaa. bbb\ncccc dddd", ["aaaa. bbb", "cccc dddd"]),
        ("aaaaaa. bbbb cccc", ["aaaaaa.", "bbbb cccc"]),
        ("aaaaaaa bbbb cccc", ["aaaaaaa", "bbbb cccc"]),
        ("a" * 25, ["a" * 10, "a" * 10, "a" * 5]),
    ],
)
def test_texts_are_cut_at_the_best_seam(text: str, expected: list[str]) -> None:
    assert list(passages(text, longest=10)) == expected


@pytest.mark.parametrize("longest", [1, 2, 7, 50])
def test_nothing_but_white_space_is_lost(longest: int) -> None:
    text = "The heart is normal.  The lungs\nare clear.\n\nNo effusion, no pneumothorax.\n" * 5
    parts = list(passages(text, longest=longest))
    assert max(map(len, parts)) <= longest
    assert "".join("".join(parts).split()) == "".join(text.split())
