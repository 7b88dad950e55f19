"""Rules are tried only where they may find something, and find what they would find everywhere."""

import random
import re
from collections.abc import Iterator
from itertools import product

import pytest

from mmmed.data.deidentify import dates, names, numbers, persons, places
from mmmed.data.deidentify.rules import Rule, Window, apply, found_in, near, places_of, words, words_at

GAPS = (" ", " ", " ", ", ", ": ", ". ", "-", "/", "", "\n", "'s ", " #", "@", ".")
VALUES = (
    *("7", "12", "31", "1987", "2019", "19870212", "555-123-4567", "123-45-6789", "00817263", "90210", "28 2801 234"),
    *("A7781-2", "12/3", "Maria", "Okafor", "Fremont", "AE 09123", "[at]", "(at)", "com", "www", "http", "+1 415"),
)

EXAMPLES = {
    "name, called": "They called her Ofelia.",
    "name, of who was": "his ex-wife Ofelia",
    "name, asked after": "Oh. Why is Ofelia so late again?",
    "name, of whom something is": "at the funeral of Ofelia, where",
}
"""Of what random words hardly ever make."""


def tried_by_beginning() -> Iterator[tuple[str, re.Pattern[str], frozenset[str]]]:
    """Every pattern that is tried only where one of some words stands."""
    for group in (numbers._NET, numbers._CONTACTS, numbers._RECORDS, places._NUMBERED, places._CODED):
        yield from ((one.name, one.pattern, one.begins) for one in group if one.begins)
    yield from ((name, dates._PATTERNS[name], begins) for name, begins in dates._BEGINNINGS.items())
    yield from ((one.rule, one.pattern, one.words) for one in persons._HABITS if one.around is None)
    yield "labelled", numbers._LABELLED, numbers._LABEL_BEGINNINGS
    yield "town", places._TOWN, places._TOWN_BEGINNINGS
    yield "degree", names._DEGREE, names._DEGREE_BEGINNINGS


def texts_for(pattern: re.Pattern[str], begins: frozenset[str], count: int) -> Iterator[str]:
    """Random texts of the words of a pattern and of what stands beside them."""
    draw = random.Random(pattern.pattern)
    known = sorted({*re.findall(r"[^\W\d_]+", pattern.pattern), *begins})
    for _ in range(count):
        parts = [draw.choice(known if draw.random() < 0.6 else VALUES) for _ in range(24)]
        yield "".join(part + draw.choice(GAPS) for part in parts)


@pytest.mark.parametrize(("name", "pattern", "begins"), [pytest.param(*one, id=one[0]) for one in tried_by_beginning()])
def test_a_pattern_finds_what_it_finds_when_tried_everywhere(
    name: str, pattern: re.Pattern[str], begins: frozenset[str]
) -> None:
    found = 0
    for text in (EXAMPLES.get(name, "(no example)"), *texts_for(pattern, begins, 400)):
        window = Window(3, len(text) - 3)
        everywhere = [match.span() for match in pattern.finditer(text, *window)]
        assert [one.span() for one in found_in(window, pattern, text, places_of(begins, text))] == everywhere, text
        found += len(everywhere)
    assert found, f"no text holds what {name} looks for"


def test_every_care_word_begins_a_word_that_names_a_place_of_care() -> None:
    draw = random.Random(0)
    known = sorted({*re.findall(r"[^\W\d_]+", places._CARE), "St", "Mt", "Clínica", "Hosp"})
    for _ in range(400):
        text = "".join(draw.choice((*known, "Mercy", "Holy", "of", "the")) + draw.choice(GAPS) for _ in range(16))
        for match in places._INSTITUTION.finditer(text):
            assert places._CARE_WORDS & words_at(match[0]).keys(), match[0]


@pytest.mark.parametrize("text", ["Seen by Dr. Ayşe on 3 May.", "İstanbul, Dr. Ayşe; dr. İnci", "", "...", "word"])
def test_words_stand_where_they_are_said_to(text: str) -> None:
    whole = [(match[0].lower(), match.start()) for match in re.finditer(r"\w+", text)]
    for word, place in whole:
        assert place in words_at(text)[word]
    known = sum(len(some) for word, some in words_at(text).items() if word)
    assert known == len(whole)
    assert places_of(words("dr may"), text) == [place for word, place in whole if word in ("dr", "may")]


def test_a_rule_is_tried_only_in_a_text_with_some_of_what_it_needs() -> None:
    needy = Rule("tail", "identifier", re.compile(r"(?P<phi>\d+)"), words("[at] (at)"), frozenset())
    found = {text: list(apply([needy], text)) for text in ("7", "7 [AT]", "7 (at)")}
    assert [bool(found[text]) for text in found] == [False, True, True]


def test_places_of_words_are_joined_where_they_touch() -> None:
    assert near(("ab", "cd"), "ab cd ......... ab", before=2, after=4) == [(0, 7), (14, 18)]


@pytest.mark.parametrize(
    ("label", "gap"), list(product(("MRN", "Case no", "Policy", "S/N", "Driver's license", "H.C."), (": ", " # ", " ")))
)
def test_labelled_numbers_are_found_behind_their_label(label: str, gap: str) -> None:
    text = f"The {label}{gap}QX-20417 was given."
    assert any(text[one.start : one.end] == "QX-20417" for one in numbers.find_records(text))
