import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.sources.vqa_rad import VqaRad, one_case_per_image
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

COMMON = {
    "question": "Are regions of the brain  infarcted?",
    "answer": "Yes ",
    "answer_type": "CLOSED",
    "question_type": "PRES",
    "phrase_type": "freeform",
}
RELEASE = COMMON | {"qid": 0, "image_name": "a.jpg", "image_case_url": "case?id=1", "image_organ": "HEAD"}
SAMPLE = COMMON | {"qid": "0", "image": "images/a.jpg", "case_url": "case?id=1", "organ": "HEAD"}


def write(root: Path, records: list[dict[str, object]]) -> str:
    release = "image_name" in records[0]
    folder = root / ("VQA_RAD Image Folder" if release else "images")
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("L", (4, 4)).save(folder / name)
    if release:
        (root / "VQA_RAD Dataset Public.json").write_text(json.dumps(records))
    else:
        (root / "vqa_rad.jsonl").write_text("\n".join(map(json.dumps, records)))
    return str(root)


def examples(source: VqaRad) -> list[Example]:
    records = list(source.records())
    assert not [record for record in records if isinstance(record, Quarantined)]
    return [record for record in records if isinstance(record, Example)]


@pytest.mark.parametrize("record", [RELEASE, SAMPLE])
def test_both_layouts_give_the_same_question(tmp_path: Path, record: dict[str, object]) -> None:
    (example,) = examples(VqaRad(write(tmp_path, [record])))
    assert (example.id, example.patient, example.topic) == ("0", "case?id=1", "closed")
    assert example.turns[0].text == "<image>\nAre regions of the brain infarcted?"
    assert (example.reference, example.options) == ("yes", ("yes", "no"))
    assert example.attributes == {
        "organ": "HEAD",
        "question_type": "PRES",
        "phrase_type": "freeform",
        "answer_type": "CLOSED",
        "official_split": "train",
    }
    assert example.images[0].open().size == (4, 4)


def test_answers_other_than_yes_and_no_are_open_and_numbers_become_text(tmp_path: Path) -> None:
    records = [
        RELEASE | {"qid": 1, "answer": "Axial"},
        RELEASE | {"qid": 2, "answer": 2, "answer_type": "OPEN "},
        RELEASE | {"qid": 3, "answer": 4.0, "answer_type": "OPEN"},
        RELEASE | {"qid": 4, "answer": "NO", "phrase_type": "test_para"},
    ]
    root = write(tmp_path, records)
    found = examples(VqaRad(root))
    assert [(example.topic, example.reference, example.options) for example in found] == [
        ("open", "Axial", ()),
        ("open", "2", ()),
        ("open", "4", ()),
        ("closed", "no", ("yes", "no")),
    ]
    assert found[-1].attributes["official_split"] == "test"
    assert [example.id for example in examples(VqaRad(root, questions=["closed"]))] == ["4"]


def test_images_tied_by_a_case_and_cases_tied_by_an_image_are_one_case() -> None:
    pairs = [("a", "1"), ("b", "1"), ("b", "2"), ("c", "2"), ("d", "3"), ("e", ""), ("f", "9"), ("f", "")]
    assert one_case_per_image(pairs) == {"a": "1", "b": "1", "c": "1", "d": "3", "e": "e", "f": "9"}


def test_images_of_one_case_share_a_split(tmp_path: Path) -> None:
    records = [RELEASE, RELEASE | {"qid": 1, "image_case_url": "case?id=2"}]
    records += [RELEASE | {"qid": 2, "image_name": "b.jpg", "image_case_url": "case?id=2"}]
    assert {example.patient for example in examples(VqaRad(write(tmp_path, records)))} == {"case?id=1"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_name": "gone.jpg"}, "image 'gone.jpg' is missing"),
        ({"image_name": None}, "'image_name' is empty"),
        ({"qid": ""}, "'qid' is empty"),
        ({"answer": ""}, "'answer' is empty"),
        ({"question": " "}, "'question' is empty"),
        ({"answer_type": "CLOSE"}, "'answer_type' is 'CLOSE' (did you mean 'CLOSED'?)"),
        ({}, "the identifier '0' is used before"),
    ],
)
def test_malformed_records_are_set_aside(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    _, bad = VqaRad(write(tmp_path, [RELEASE, RELEASE | change])).records()
    assert isinstance(bad, Quarantined)
    assert (bad.source, bad.record) == ("vqa_rad", "VQA_RAD Dataset Public.json[1]")
    assert reason in bad.reason


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    record = {name: value for name, value in SAMPLE.items() if name != "answer"}
    with pytest.raises(DataError, match=r"vqa_rad\.jsonl lacks the column\(s\) 'answer'; it has 'question'"):
        list(VqaRad(write(tmp_path, [record])).records())


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected 'VQA_RAD Dataset Public\.json' .*card data/vqa_rad\.md"):
        list(VqaRad(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    found = examples(VqaRad(str(shared_data / "04_vqa_rad")))
    check_disjoint(found)
    counts = read_card("vqa_rad").counts
    assert len(found) == counts["questions"] == 1762
    assert len({example.images[0].name for example in found}) == counts["images"] == 244
    assert len({example.patient for example in found}) == counts["cases"]
    assert Counter(example.topic for example in found) == {topic: counts[topic] for topic in ("closed", "open")}
    answers = Counter(example.reference for example in found if example.topic == "closed")
    assert answers == {"yes": counts["closed answers yes"], "no": counts["closed answers no"]}
    assert sum(example.attributes["official_split"] == "test" for example in found) == counts["official test"]
