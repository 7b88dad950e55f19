"""An answer names one option or none; what names several is unparsed, never guessed."""

import pytest

from mmmed.inference.parsing import named_option

YES_NO = ("yes", "no")
FINDINGS = ("effusion", "no effusion", "pneumothorax")
TEXTS = ("renal vein", "renal artery", "aorta", "vena cava")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("No, there is none.", "no"),
        # Marked right for every question by a published scorer, which looks for the answer inside the text.
        ("yes no", None),
        ("", None),
        ("I cannot tell.", None),
        ("notable", None),
        ("It is not yes. Answer: no", "no"),
        ("The answer is yes\nbecause no effusion is seen", "yes"),
    ],
)
def test_yes_and_no(said: str, expected: str | None) -> None:
    assert named_option(said, YES_NO) == expected


def test_an_option_inside_a_longer_one_is_not_named() -> None:
    assert named_option("There is no effusion.", FINDINGS) == "no effusion"
    assert named_option("An effusion is there.", FINDINGS) == "effusion"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("B", "renal artery"),
        ("(C)", "aorta"),
        ("B. renal artery", "renal artery"),
        ("Reasons first.\nAnswer: D", "vena cava"),
        ("The answer is (A) because of B", "renal vein"),
        ("A patient with renal failure", None),
        ("the renal vein", "renal vein"),
        ("E", None),
        ("either (A) or (B)", None),
    ],
)
def test_letters_and_texts(said: str, expected: str | None) -> None:
    assert named_option(said, TEXTS, letters="ABCD") == expected
