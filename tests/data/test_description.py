from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.card import Card, parse_card
from mmmed.data.description import describe, samples, shared_spread, spread, text_samples
from mmmed.data.description_page import (
    answers_of,
    histogram,
    pictures,
    prose,
    shortened,
    texts,
    titled,
    write_description,
)
from mmmed.processing.image import ImageFile
from mmmed.records import Example, Quarantined, Split, Turn

CARD = """---
name: toy
title: Toy <set>
version: 1
licence: CC BY-NC 4.0
forbids: [commercial use]
consent: none needed
deidentified: true
home: https://example.org
obtain: make it
citation: nobody
splits: by patient
counts: {images: 3}
sha256: abc
demographics: [nobody]
faults: [it is a toy]
---
"""


def card(*, deidentified: bool = True) -> Card:
    return parse_card(CARD.replace("deidentified: true", f"deidentified: {str(deidentified).lower()}"), place="toy.md")


def example(place: int, folder: Path, *, split: Split = "train", topic: str = "ill", **attributes: object) -> Example:
    path = folder / f"{place // 2}.png"
    if not path.exists():
        Image.linear_gradient("L").save(path)
    return Example(
        id=f"q{place}",
        patient=f"p{place // 2}",
        turns=(Turn("user", f"<image>\nIs <b>{topic}</b> seen?"), Turn("assistant", "yes" if place % 2 else "no")),
        images=(ImageFile(path),),
        options=("yes", "no"),
        topic=topic,
        split=split,
        source="toy",
        attributes=attributes,  # type: ignore[arg-type]
    )


def test_examples_patients_and_pictures_are_counted_by_split(tmp_path: Path) -> None:
    found = describe([example(n, tmp_path, split="test" if n > 3 else "train") for n in range(6)], [])
    assert (found.examples["train"], found.patients["train"], found.pictures["train"]) == (4, 2, 2)
    assert (found.examples["test"], found.patients["test"], found.patients["validation"]) == (2, 1, 0)
    assert found.topics == [("ill", 6, [("no", 3), ("yes", 3)])]


def test_facts_of_pictures_are_counted_once_and_what_differs_by_question_each_time(tmp_path: Path) -> None:
    examples = [example(n, tmp_path, sex="F" if n < 4 else "M", kind=f"k{n % 2}") for n in range(6)]
    sex, kind = describe(examples, []).attributes
    assert (sex.unit, sex.units, sex.values) == ("pictures", 3, [("F", 2), ("M", 1)])
    assert (kind.unit, kind.units, kind.values) == ("examples", 6, [("k0", 3), ("k1", 3)])


def test_missing_values_are_counted_and_numbers_have_a_spread(tmp_path: Path) -> None:
    examples = [example(0, tmp_path, age=40.0), example(2, tmp_path), example(4, tmp_path, age=60.0)]
    (age,) = describe(examples, []).attributes
    assert age.missing == 1
    assert age.numbers is not None
    assert (age.numbers.low, age.numbers.median, age.numbers.high) == (40, 50, 60)
    assert sum(one.number for one in age.numbers.bins) == 2


def test_values_beyond_the_most_frequent_are_counted_together(tmp_path: Path) -> None:
    (site,) = describe([example(2 * n, tmp_path, site=f"site {n}") for n in range(20)], []).attributes
    assert (len(site.values), site.others) == (12, 8)


@pytest.mark.parametrize("values", [[3, 3, 3], [0, 1], [0.1, 0.25, 7.5], list(range(1000)), [-5, 5]])
def test_every_number_lies_in_its_bin(values: list[float]) -> None:
    found = spread(values)
    assert found is not None
    assert sum(one.number for one in found.bins) == len(values)
    for one in found.bins:
        assert one.number == sum(one.low <= value < one.high for value in values)
    assert len(found.bins) <= 60


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None


def test_a_sample_takes_kinds_of_answer_in_turn_and_no_picture_twice(tmp_path: Path) -> None:
    examples = [example(n, tmp_path, topic="rare" if n == 9 else "ill") for n in range(40)]
    chosen = samples(examples, most=6)
    assert len({one.images[0].name for one in chosen}) == 6
    assert "rare" in {one.topic for one in chosen}
    assert samples(examples[::-1], most=6) == chosen


def test_a_page_needs_nothing_beside_it_and_escapes_what_the_data_say(tmp_path: Path) -> None:
    examples = [example(n, tmp_path, sex="F", age=30.0 + n) for n in range(6)]
    write_description(
        tmp_path / "out" / "toy.html",
        card=card(),
        description=describe(examples, [Quarantined("toy", "row", "image <x> is missing")] * 2),
        examples=examples,
    )
    html = (tmp_path / "out" / "toy.html").read_text(encoding="utf-8")
    assert "Toy &lt;set&gt;" in html and "<b>ill" not in html and "image &lt;x&gt; is missing" in html
    assert html.count("data:image/jpeg") == 3
    assert 'src="http' not in html and "Forbids commercial use" in html
    assert "default-src 'none'" in html and "prefers-color-scheme: dark" in html


def test_no_picture_and_no_text_is_shown_where_identifiers_were_not_removed(tmp_path: Path) -> None:
    examples = [example(n, tmp_path) for n in range(4)]
    assert pictures(examples, card=card(deidentified=False)) == []
    write_description(
        tmp_path / "toy.html", card=card(deidentified=False), description=describe(examples, []), examples=examples
    )
    html = (tmp_path / "toy.html").read_text(encoding="utf-8")
    assert "data:image/jpeg" not in html and "seen?" not in html
    assert "no picture and no text of it is shown" in html and "fewer than 5 patients" in html


def test_a_histogram_says_its_figures_and_a_constant_needs_none() -> None:
    many = spread([1, 2, 2, 3])
    once = spread([6, 6])
    assert many is not None and once is not None
    assert "1 to 3, median 2" in histogram("Words", many)
    assert "always 6" in histogram("Words", once) and "<rect" not in histogram("Words", once)


def test_what_few_patients_share_is_counted_but_not_named(tmp_path: Path) -> None:
    examples = [
        example(2 * n, tmp_path, topic="ill" if n else "Mr. Roel", ward="A" if n > 2 else f"Dr. {n}", age=80.0 + 4 * n)
        for n in range(8)
    ]
    found = describe(examples, [], fewest_patients=5)
    ward, age = found.attributes
    assert (ward.values, ward.others, ward.missing) == ([("A", 5)], 3, 0)
    assert (age.numbers, age.others) == (None, 8), "of eight ages none is shared by five, and their ends cross"
    assert {topic.name: topic.asked for topic in found.topics} == {"ill": 7, "any other": 1}
    assert describe(examples, []).attributes[1].numbers.high == 108  # type: ignore[union-attr]


def test_neither_end_nor_column_of_a_histogram_stands_for_few_patients() -> None:
    ages = [(float(age), f"p{age}") for age in (3, *range(20, 80), 101)]
    found = shared_spread(ages, 5)
    assert found is not None
    assert (found.low, found.high) == (23, 76), "with the outermost five"
    assert sum(each.number for each in found.bins) == len(ages), "nobody is left out"
    assert all(each.number >= 5 for each in found.bins if each.number)


def test_numbers_of_few_patients_are_counted_and_not_drawn() -> None:
    assert shared_spread([(1.0, "p1"), (2.0, "p2")], 5) is None
    one_patient = [(float(number), "p") for number in range(100)]
    assert shared_spread(one_patient, 5) is None
    either_side = [(-1.0, "far"), *((float(n), f"p{n}") for n in range(1, 9))]
    assert shared_spread(either_side, 5) is None, "their ends cross"
    constant = shared_spread([(512.0, f"p{n}") for n in range(9)], 5)
    assert constant is not None and constant.low == constant.high == 512


def test_bins_that_no_width_fills_are_not_drawn() -> None:
    halves = [(-1.0, f"p{n}") for n in range(5)] + [(1.0, f"p{n}") for n in range(5, 10)] + [(0.0, "between")]
    found = shared_spread(halves, 5)
    assert found is not None and [each.number for each in found.bins if each.number] == [5, 6]


def test_one_patient_with_many_pictures_makes_no_word_common(tmp_path: Path) -> None:
    many = [replace(example(2 * n, tmp_path, ward="Dr. Who"), patient="p") for n in range(9)]
    (ward,) = describe(many, [], fewest_patients=5).attributes
    assert (ward.values, ward.others) == ([], 9)


def test_reasons_that_may_quote_the_data_are_not_shown(tmp_path: Path) -> None:
    examples = [example(n, tmp_path, ward="Dr. Who") for n in range(4)]
    bad = [Quarantined("toy", "row", "'name' is 'Maria Kowalska'")] * 3
    found = describe(examples, bad, fewest_patients=5)
    write_description(tmp_path / "toy.html", card=card(deidentified=False), description=found, examples=examples)
    html = (tmp_path / "toy.html").read_text(encoding="utf-8")
    assert "Kowalska" not in html and "Dr. Who" not in html
    assert "3 records were set aside" in html and "quarantine.jsonl" in html


def ask(place: int, *, text: str, answer: str = "", options: tuple[str, ...] = ()) -> Example:
    turns = (Turn("user", text), Turn("assistant", answer)) if answer else (Turn("document", text),)
    topic = "choice" if answer else "document"
    return Example(id=f"t{place}", patient=f"p{place}", turns=turns, options=options, topic=topic, source="toy")


def test_examples_without_pictures_are_shown_as_texts_where_the_card_allows_it(tmp_path: Path) -> None:
    asked = ask(0, text="word " * 200 + "What <next>?", answer="rest", options=("rest", "admit"))
    examples = [asked, *(ask(n, text="A note of three words") for n in range(1, 9))]
    assert len(text_samples(examples, most=6)) == 6
    shown = texts(examples, card=card())
    (question,) = (one for one in shown if one.answer)
    assert question.question.startswith("word word") and question.question.endswith("What <next>?")
    assert (question.answer, question.others) == ("rest", "admit")
    found = describe(examples, [])
    assert found.document_words is not None and found.document_words.median == 5
    write_description(tmp_path / "toy.html", card=card(), description=found, examples=examples)
    html = (tmp_path / "toy.html").read_text(encoding="utf-8")
    assert "What &lt;next&gt;?" in html and "not: admit" in html and "Words of a document" in html
    assert "A group is a text" in html
    assert texts(examples, card=card(deidentified=False)) == []


def test_answers_are_named_where_they_are_few() -> None:
    few = describe([ask(n, text="?", answer="yes" if n else "no", options=("yes", "no")) for n in range(4)], [])
    assert answers_of(few.topics[0]) == "yes 75.0 %, no 25.0 %"
    many = describe([ask(n, text="?", answer=f"a{n}", options=(f"a{n}", "no")) for n in range(30)], [])
    assert answers_of(many.topics[0]) == "30 different ones"
    assert answers_of(describe([ask(0, text="a note")], []).topics[0]) == "none: a text to learn a language from"


def test_words_of_cards_and_headings() -> None:
    assert prose("set `a<b` here") == "set <code>a&lt;b</code> here"
    assert prose("one ` alone <") == "one ` alone &lt;"
    assert (titled("age"), titled("official_split")) == ("Age, years", "Official split")
    assert shortened("short") == "short"


def test_reasons_that_differ_in_what_they_quote_are_one_reason() -> None:
    reasons = ["image 'a.png' is missing", "image 'b.png' is missing", "its question stands twice (q7)", "no JSON"]
    found = describe([], [Quarantined("toy", "row", reason) for reason in reasons]).quarantined
    assert found == [
        ("image \N{HORIZONTAL ELLIPSIS} is missing", 2),
        ("its question stands twice (q7)", 1),
        ("no JSON", 1),
    ]
