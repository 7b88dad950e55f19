import csv
import json
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.source import Source, decodable, read
from mmmed.data.sources.pairs import Pairs
from mmmed.data.splits import Fractions, check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined, Turn

QUESTION = {
    "image": "a.png",
    "question": "Is there an effusion?",
    "answer": "yes",
    "patient": "p1",
    "options": "yes|no",
}
REPORT = {"image": "a.png", "answer": "No focal consolidation.", "patient": "p1"}


def write(folder: Path, *rows: dict[str, str], name: str = "own.csv") -> str:
    for image in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(folder / image)
    path = folder / name
    with path.open("w", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


def only(source: Pairs) -> Example:
    (record,) = source.records()
    assert isinstance(record, Example)
    return record


def reason(source: Pairs) -> str:
    """Why the last row is set aside."""
    *_, last = source.records()
    assert isinstance(last, Quarantined)
    return last.reason


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_a_row_is_a_question_about_an_image(tmp_path: Path, name: str) -> None:
    row = QUESTION | {"topic": "effusion", "sex": "F", "age": "061Y", "ward": "", "study": "s1", "id": "q1"}
    example = only(Pairs(write(tmp_path, row, name=name)))
    assert example.turns == (Turn("user", "<image>\nIs there an effusion?"), Turn("assistant", "yes"))
    assert (example.id, example.patient, example.study, example.topic) == ("q1", "p1", "s1", "effusion")
    assert (example.source, example.options) == ("pairs", ("yes", "no"))
    assert example.attributes == {"sex": "F", "age": 61.0}
    assert not decodable([example]).quarantined


def test_a_file_without_questions_holds_reports(tmp_path: Path) -> None:
    row = REPORT | {"answer": "FINDINGS:\n  No focal   consolidation."}
    example = only(Pairs(write(tmp_path, row), instruction="Report this film."))
    assert (example.question, example.topic, example.options) == ("Report this film.", "report", ())
    assert example.reference == "FINDINGS: No focal consolidation."


def test_topics_tell_open_from_closed_questions(tmp_path: Path) -> None:
    rows = [QUESTION, QUESTION | {"question": "Where?", "answer": "on the left", "options": ""}]
    records = Pairs(write(tmp_path, *rows)).records()
    assert [(one.id, one.topic) for one in records if isinstance(one, Example)] == [
        ("own.csv:2", "closed"),
        ("own.csv:3", "open"),
    ]


def test_images_may_lie_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "films" / "first").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "films" / "first" / "c.png")
    path = write(tmp_path, REPORT | {"image": "first/c.png"})
    assert only(Pairs(path, images=str(tmp_path / "films"))).images[0].name.endswith("films/first/c.png")


def test_patients_are_split_by_a_hash_where_no_split_is_given(tmp_path: Path) -> None:
    rows = [REPORT | {"patient": f"p{number // 2}", "image": f"{number // 2}.png"} for number in range(200)]
    path = write(tmp_path, *rows)
    for number in range(100):
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.png")
    source = Pairs(path, fractions=Fractions(0.5, 0.25, 0.25))
    examples = [record for record in source.records() if isinstance(record, Example)]
    check_disjoint(examples)
    assert len(examples) == 200
    assert {example.split for example in examples} == {"train", "validation", "test"}


def test_a_given_split_is_kept(tmp_path: Path) -> None:
    rows = [REPORT | {"split": "test"}, REPORT | {"patient": "p2", "image": "b.png", "split": "train"}]
    source = Pairs(write(tmp_path, *rows))
    assert [one.patient for one in read([source], "test").examples] == ["p1"]
    assert [one.patient for one in read([source], "train").examples] == ["p2"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"image": "b.png"}, r"1 patient\(s\) stand in two splits \(compare the columns patient"),
        ({"patient": "p2"}, r"1 image\(s\) stand"),
    ],
)
def test_a_given_split_may_not_share_a_patient_or_an_image(tmp_path: Path, other: dict[str, str], message: str) -> None:
    rows = [REPORT | {"split": "train"}, REPORT | {"split": "test"} | other]
    with pytest.raises(DataError, match=message):
        list(Pairs(write(tmp_path, *rows)).records())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image": "c.png"}, "image 'c.png' is missing"),
        ({"image": "../a.png"}, "image '../a.png' lies outside the data set"),
        ({"answer": ""}, "'answer' is empty"),
        ({"patient": " "}, "'patient' is empty"),
        ({"question": ""}, "'question' is empty"),
        (
            {"question": "<image> What is it?"},
            "'question' holds '<image>', which is put before the question; leave it out",
        ),
        ({"options": "yes"}, "'options' is 'yes'; expected two or more different answers such as 'yes|no'"),
        ({"options": "yes|yes"}, "'options' is 'yes|yes'; expected two or more different answers such as 'yes|no'"),
        ({"answer": "maybe"}, "pairs:own.csv:3: the answer 'maybe' is none of the options ('yes', 'no')"),
        ({"split": "val"}, "'split' is 'val' (known: test, train, validation)"),
        ({"split": ""}, "'split' is '' (known: test, train, validation)"),
        ({"age": "unknown"}, "'unknown' is no age between 0 and 120 years"),
        ({"id": "first"}, "the identifier 'first' is used before"),
    ],
)
def test_a_bad_row_is_set_aside_with_its_reason(tmp_path: Path, change: dict[str, str], expected: str) -> None:
    row = QUESTION | {"split": "train", "age": "61", "id": ""}
    assert reason(Pairs(write(tmp_path, row | {"id": "first"}, row | change))) == expected


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"image": "a.png", "text": "No effusion."},
            r"lacks the column\(s\) 'answer', 'patient'; it has 'image', 'text'",
        ),
        (REPORT | {"questions": "Where?"}, "column 'questions' looks like 'question'"),
        (REPORT | {"Split": "test"}, "column 'Split' looks like 'split'"),
        (REPORT | {"image": "c.png"}, r"none of the 1 rows of .*; the first is own.*: image 'c\.png' is missing"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path: Path, name: str, row: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(Pairs(write(tmp_path, row, name=name)).records())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("own.csv", "image,answer,patient,note,note\na.png,x,p1,1,2\n", "has the column 'note' twice"),
        ("own.csv", "", "lacks the column.*it has none"),
        ("own.csv", "image,answer,patient\n", "none of the 0 rows"),
        ("own.jsonl", "{'image': 1}\n", r"none of the 1 rows .*own\.jsonl:1: no JSON"),
        ("own.xlsx", "", r"own\.xlsx is no \.csv or \.jsonl file"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        list(Pairs(str(tmp_path / name)).records())
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*own\.csv; give the path"):
        list(Pairs(str(tmp_path / "own.csv")).records())


def test_the_row_numbers_of_pandas_are_no_attribute(tmp_path: Path) -> None:
    assert only(Pairs(write(tmp_path, {"": "0"} | REPORT))).attributes == {}


def test_the_card_assumes_that_patients_can_be_recognised() -> None:
    card = read_card(Pairs.name)
    assert not card.deidentified
    assert card.licence.startswith("unknown")


def test_the_source_is_built_from_its_class_path() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--sources", type=list[Source])
    arguments = {"path": "own.csv", "images": "films", "fractions": [0.5, 0.25, 0.25]}
    entry = {"class_path": "mmmed.data.sources.pairs.Pairs", "init_args": arguments}
    (source,) = parser.instantiate(parser.parse_object({"sources": [entry]})).sources
    assert (str(source.path), str(source.images), source.fractions.train) == ("own.csv", "films", 0.5)
    source.prepare()
