"""Several values in one option."""

from mmmed.cli.lists import listed


def test_words_stand_with_commas_between() -> None:
    assert listed(" pubmedqa,, vqa_rad ,") == ("pubmedqa", "vqa_rad")
    assert listed("") == ()
