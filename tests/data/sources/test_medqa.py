import json
from pathlib import Path

import pytest

from mmmed.data.card import read_card
from mmmed.data.source import read
from mmmed.data.sources.medqa import MedQa
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

RELEASED = {
    "question": "A junior resident is completing a repair.\nNext?",
    "answer": "Tell the  attending",
    "options": {"A": "Disclose the error", "B": "Tell the attending", "C": "Report", "D": "Refuse"},
    "meta_info": "step1",
    "answer_idx": "B",
    "metamap_phrases": ["junior"],
}
SAMPLED = {name: value for name, value in RELEASED.items() if name not in ("answer_idx", "metamap_phrases")}
SAMPLED |= {"id": "medqa_us_test_0000", "answer": "B"}


def write(root: Path, name: str, *records: dict[str, object]) -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(root)


@pytest.mark.parametrize("folder", [".", "data_clean/questions/US/4_options"])
def test_release_and_sample_give_the_same_question(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "release" / folder, "phrases_no_exclude_test.jsonl", RELEASED)
    write(tmp_path / "sample", "medqa_us_test.jsonl", SAMPLED)
    (released,) = read([MedQa(str(tmp_path / "release"))], "test").examples
    (sampled,) = read([MedQa(str(tmp_path / "sample"))], "test").examples
    assert (released.id, sampled.id) == ("test-0000", "medqa_us_test_0000")
    assert released.turns == sampled.turns and released.options == sampled.options
    assert released.turns[0].text == "A junior resident is completing a repair.\nNext?"
    assert released.reference == "Tell the attending"
    assert released.attributes == {"step": "step1", "official_split": "test"}


def test_official_splits_are_kept_but_for_what_they_share(tmp_path: Path) -> None:
    others = [RELEASED | {"question": f"Question {number}?"} for number in range(3)]
    write(tmp_path, "phrases_no_exclude_test.jsonl", RELEASED)
    write(tmp_path, "phrases_no_exclude_dev.jsonl", others[0], RELEASED)
    root = write(tmp_path, "phrases_no_exclude_train.jsonl", others[1], others[0], others[2])
    records = list(MedQa(root).records())
    examples = [record for record in records if isinstance(record, Example)]
    check_disjoint(examples)
    assert [(one.id, one.split, one.attributes["official_split"]) for one in examples] == [
        ("test-0000", "test", "test"),
        ("dev-0000", "validation", "dev"),
        ("train-0000", "train", "train"),
        ("train-0002", "train", "train"),
    ]
    assert [record.reason for record in records if isinstance(record, Quarantined)] == [
        "its question stands in the official test split as well (test-0000)",
        "its question stands in the official validation split as well (dev-0000)",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer_idx": "A"}, "'answer' is 'Tell the  attending', but 'answer_idx' names 'Disclose the error'"),
        ({"answer_idx": "E"}, "the answer is 'E'; expected one of the letters A, B, C, D"),
        ({"options": {"A": "one", "B": "one"}}, "the option 'one' stands twice"),
        ({"options": ["one", "two"]}, "'options' is list; expected an object"),
        ({"answer": None}, "'answer' is empty"),
    ],
)
def test_questions_that_cannot_be_scored_are_set_aside(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    other = RELEASED | {"question": "And this?"} | change
    _, bad = MedQa(write(tmp_path, "phrases_no_exclude_test.jsonl", RELEASED, other)).records()
    assert isinstance(bad, Quarantined)
    assert bad.record == "phrases_no_exclude_test.jsonl:2" and reason in bad.reason


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected phrases_no_exclude_.*card data/medqa\.md"):
        list(MedQa(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    records = read([MedQa(str(shared_data / "08_qa_mcq"))], "test")
    assert len(records.examples) == read_card("medqa").counts["test questions"] == 1273
    assert not records.quarantined
    assert {len(example.options) for example in records.examples} == {4}
