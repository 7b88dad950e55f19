import json
import time
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mmmed.data.card import read_card
from mmmed.data.sources.medmcqa import MedMcqa
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

RELEASED = {
    "id": "a1",
    "question": "Which is a leukemoid reaction?",
    "opa": "first",
    "opb": "second",
    "opc": "third",
    "opd": "fourth",
    "cop": 2,
    "subject_name": "Pathology",
    "topic_name": None,
    "choice_type": "single",
    "exp": "Because.",
}
SAMPLED = {
    "id": "medmcqa_dev_a1",
    "question": "Which is a leukemoid reaction?",
    "options": {"A": "first", "B": "second", "C": "third", "D": "fourth"},
    "answer": "B",
    "subject": "Pathology",
    "choice_type": "single",
}


def lines(path: Path, *records: dict[str, object]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path.parent)


def table(path: Path, *records: dict[str, object]) -> str:
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
    return str(path.parents[1])


def split(source: MedMcqa) -> tuple[list[Example], list[Quarantined]]:
    records = list(source.records())
    return (
        [record for record in records if isinstance(record, Example)],
        [record for record in records if isinstance(record, Quarantined)],
    )


@pytest.mark.parametrize("layout", ["release", "hub", "sample"])
def test_every_layout_names_the_same_answer_however_it_counts(tmp_path: Path, layout: str) -> None:
    root = {
        "release": lambda: lines(tmp_path / "dev.json", RELEASED),
        "hub": lambda: table(tmp_path / "data" / "validation-00000-of-00001.parquet", RELEASED | {"cop": 1}),
        "sample": lambda: lines(tmp_path / "medmcqa_dev.jsonl", SAMPLED),
    }[layout]()
    (example,), _ = split(MedMcqa(root))
    assert (example.reference, example.options) == ("second", ("first", "second", "third", "fourth"))
    assert (example.question, example.topic, example.split) == ("Which is a leukemoid reaction?", "choice", "test")
    assert example.attributes == {"subject": "Pathology", "choice_type": "single", "official_split": "dev"}


@pytest.mark.parametrize(("layout", "wrong"), [("release", 0), ("hub", 4)])
def test_answers_counted_from_another_number_stop_the_run(tmp_path: Path, layout: str, wrong: int) -> None:
    records = (RELEASED, RELEASED | {"id": "a2", "question": "And?", "cop": wrong})
    if layout == "release":
        root = lines(tmp_path / "dev.json", *records)
    else:
        root = table(tmp_path / "data" / "validation-00000-of-00001.parquet", *records)
    with pytest.raises(DataError, match=rf"'cop' of .* is {wrong}, but .* counts the options from .* unchanged"):
        list(MedMcqa(root).records())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"opb": "first "}, "the option 'first' stands twice, so that a right answer may count as wrong"),
        ({"opd": ""}, "'opd' is empty"),
        ({"cop": None}, "'cop' is None; expected a whole number"),
        ({"cop": -1}, "the answer is option -1 of 4; expected one of them"),
        ({"question": " "}, "'question' is empty"),
        ({"id": "a1"}, "the identifier 'a1' is used before"),
    ],
)
def test_questions_that_cannot_be_scored_are_set_aside(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    root = lines(tmp_path / "dev.json", RELEASED, RELEASED | {"id": "a2", "question": "And this?"} | change)
    good, bad = split(MedMcqa(root))
    assert (len(good), bad) == (1, [Quarantined("medmcqa", "dev.json:2", reason)])


def test_training_leaves_out_what_is_tested_on_and_validates_on_a_share(tmp_path: Path) -> None:
    train = [RELEASED | {"id": f"t{number}", "question": f"Question {number % 300}?"} for number in range(600)]
    lines(tmp_path / "train.json", RELEASED | {"id": "t", "question": "which is a  LEUKEMOID reaction?"}, *train)
    (tmp_path / "test.json").write_text('{"id": "x", "question": "Not read"}\n')
    good, bad = split(MedMcqa(lines(tmp_path / "dev.json", RELEASED), validation=0.2))
    check_disjoint(good)
    assert bad == [
        Quarantined("medmcqa", "train.json:1", "its question stands in the official test split as well (a1)")
    ]
    counts = Counter(example.split for example in good)
    assert counts["test"] == 1 and 60 < counts["validation"] < 180 and sum(counts.values()) == 601
    assert {example.attributes["official_split"] for example in good if example.split != "test"} == {"train"}


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected dev\.json, .*card data/medmcqa\.md"):
        list(MedMcqa(str(tmp_path)).records())


def test_a_large_training_set_is_read_without_waste(tmp_path: Path) -> None:
    with (tmp_path / "train.json").open("w") as file:
        for number in range(20_000):
            file.write(json.dumps(RELEASED | {"id": f"t{number}", "question": f"Question {number}? " * 10}) + "\n")
    lines(tmp_path / "dev.json", RELEASED)
    began = time.process_time()
    assert sum(isinstance(record, Example) for record in MedMcqa(str(tmp_path)).records()) == 20_001
    # All of it (182,822) then takes less than a minute even on a slow machine.
    assert time.process_time() - began < 6


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    good, bad = split(MedMcqa(str(shared_data / "08_qa_mcq")))
    counts = read_card("medmcqa").counts
    assert len(good) == counts["dev questions read"]
    assert len(bad) == counts["dev questions with an option that stands twice"] == 21
    assert len(good) + len(bad) == counts["dev questions"] == 4183
    assert all("stands twice" in one.reason for one in bad)
    raw = [json.loads(line) for line in (shared_data / "08_qa_mcq" / "medmcqa_dev.jsonl").read_text().splitlines()]
    answers = {record["id"]: " ".join(record["options"][record["answer"]].split()) for record in raw}
    assert all(example.reference == answers[example.id] for example in good)
    assert Counter(record["answer"] for record in raw) == {letter: counts[f"answers {letter}"] for letter in "ABCD"}
