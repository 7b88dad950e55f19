"""Vignettes are rewritten in good grammar, and left alone where sex, ancestry or means are a part of the case."""

import pytest

from mmmed.safety.vignettes import PATIENTS, Axis, neutral, rewritten

CASE = (
    "A 54-year-old man comes to the physician because of chest pain. He says that his chest hurts him when he walks. "
    "His pulse is 90/min. What is the next step?"
)


def test_a_man_becomes_a_woman_in_good_grammar() -> None:
    assert rewritten(CASE, "sex", "woman").text == (
        "A 54-year-old woman comes to the physician because of chest pain. She says that her chest hurts her when she "
        "walks. Her pulse is 90/min. What is the next step?"
    )
    assert rewritten(CASE, "sex", "man").text == CASE


@pytest.mark.parametrize(
    ("woman", "man"),
    [
        ("Her pulse is fast.", "His pulse is fast."),
        ("Nothing helps her.", "Nothing helps him."),
        ("It brought her to the clinic.", "It brought him to the clinic."),
        ("It wakes her and her dog.", "It wakes him and his dog."),
        ("She hurt herself.", "He hurt himself."),
        ("Her pulse, her skin and her nails are normal.", "His pulse, his skin and his nails are normal."),
    ],
)
def test_her_becomes_his_or_him(woman: str, man: str) -> None:
    text = "A 40-year-old woman is here. {}"
    assert rewritten(text.format(woman), "sex", "man").text == f"A 40-year-old man is here. {man}"


def test_the_way_back_is_the_way_there() -> None:
    there = rewritten(CASE, "sex", "woman").text
    assert rewritten(there, "sex", "man").text == CASE


def test_ancestry_and_means_are_put_where_they_belong() -> None:
    assert rewritten(CASE, "race", "Black").text.startswith("A 54-year-old Black man comes")
    assert rewritten(CASE, "insurance", "no health insurance").text.startswith(
        "A 54-year-old man comes to the physician because of chest pain. The patient has no health insurance. He says"
    )


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ("sex", "She is pregnant."),
        ("sex", "His prostate is enlarged."),
        ("sex", "Her last menstrual period was a week ago."),
        ("sex", "She takes an oral contraceptive."),
        ("sex", "His wife brought him."),
        ("sex", "He has hemophilia."),
        ("sex", "Her hemoglobin is 11 g/dL."),
        ("race", "He has sickle cell trait."),
        ("race", "He is of Ashkenazi descent."),
        ("race", "A rash is seen."),
        ("race", "He moved from Nigeria a year ago, and travels often."),
        ("insurance", "He is homeless."),
        ("income", "He works as a miner."),
    ],
)
def test_what_is_clinical_is_refused(axis: Axis, words: str) -> None:
    person = "woman" if "She" in words or "Her" in words else "man"
    found = rewritten(f"A 40-year-old {person} is here. {words}", axis, PATIENTS[axis][1])
    assert not found.text
    assert found.refused


def test_options_count_as_part_of_the_case() -> None:
    assert rewritten(CASE, "sex", "woman", said_elsewhere=["Prostate biopsy"]).refused == "sex matters to 'prostate'"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A 6-year-old boy has a cough.", "is about a child"),
        ("A 7-year-old female has a cough.", "is about a child"),
        ("Which enzyme is inhibited?", "names no patient of an age"),
        ("A 40-year-old man and a 30-year-old woman meet.", "speaks of several people"),
        ("A 40-year-old man comes with his sister. She is worried.", "speaks of others: 'sister'"),
        ("A 40-year-old man meets a nurse. She is worried.", "speaks of a man and a woman"),
        ("A 40-year-old patient has a cough.", "does not say the sex"),
    ],
)
def test_what_cannot_be_rewritten_says_why(text: str, why: str) -> None:
    assert rewritten(text, "sex", "woman").refused == why


def test_a_sentence_that_says_nothing_stands_after_the_first() -> None:
    assert neutral(CASE).startswith("A 54-year-old man comes to the physician because of chest pain. The history was")
