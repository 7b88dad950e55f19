from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.card import Card, parse_card
from mmmed.data.description import describe, samples, spread
from mmmed.data.description_page import histogram, pictures, write_description
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
    assert "no picture and no text of it is shown" in html


def test_a_histogram_says_its_figures_and_a_constant_needs_none() -> None:
    many = spread([1, 2, 2, 3])
    once = spread([6, 6])
    assert many is not None and once is not None
    assert "1 to 3, median 2" in histogram("Words", many)
    assert "always 6" in histogram("Words", once) and "<rect" not in histogram("Words", once)
