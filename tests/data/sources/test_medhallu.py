import json
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mmmed.data.card import read_card
from mmmed.data.sources.medhallu import MedHallu
from mmmed.data.sources.pubmedqa import PubMedQa
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

ROW = {
    "Question": "Do mitochondria play a role?",
    "Knowledge": ["They are known.", "We looked."],
    "Ground Truth": "They do.",
    "Difficulty Level": "hard",
    "Hallucinated Answer": "They never do.",
    "Category of Hallucination": "Incomplete Information",
}


def write(root: Path, part: str, *rows: dict[str, object]) -> str:
    (root / part).mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), root / part / "train-00000-of-00001.parquet")
    return str(root)


def test_each_question_yields_a_true_and_a_hallucinated_answer(tmp_path: Path) -> None:
    true, hallucinated = MedHallu(write(tmp_path, "pqa_labeled", ROW)).records()
    assert isinstance(true, Example) and isinstance(hallucinated, Example)
    assert (true.id, hallucinated.id) == ("pqa_labeled-0000:true", "pqa_labeled-0000:hallucinated")
    assert true.patient == hallucinated.patient and true.split == hallucinated.split == "test"
    assert (true.reference, hallucinated.reference, true.options) == ("no", "yes", ("yes", "no"))
    assert true.turns[0].text == (
        "They are known.\nWe looked.\n\nQuestion: Do mitochondria play a role?\nAnswer: They do.\n\n"
        "Is this answer hallucinated?"
    )
    assert "Answer: They never do." in hallucinated.question


def test_the_sample_says_the_same_and_knowledge_may_be_hidden(tmp_path: Path) -> None:
    (tmp_path / "medhallu_pqa_labeled.jsonl").write_text(json.dumps(ROW))
    root = write(tmp_path / "hub", "pqa_labeled", ROW)
    assert list(MedHallu(str(tmp_path)).records()) == list(MedHallu(root).records())
    example = next(MedHallu(root, knowledge=False).records())
    assert isinstance(example, Example) and example.question.startswith("Question: Do mitochondria")


def test_artificial_questions_are_learned_from_unless_they_are_tested_on(tmp_path: Path) -> None:
    write(tmp_path, "pqa_labeled", ROW)
    rows = [ROW | {"Question": f"Question {number}?"} for number in range(200)]
    root = write(tmp_path, "pqa_artificial", ROW | {"Question": "do MITOCHONDRIA play a role?"}, *rows)
    records = list(MedHallu(root, validation=0.3).records())
    examples = [record for record in records if isinstance(record, Example)]
    check_disjoint(examples)
    counts = Counter(example.split for example in examples)
    assert counts["test"] == 2 and counts["train"] + counts["validation"] == 400
    assert 80 < counts["validation"] < 160
    (bad,) = [record for record in records if isinstance(record, Quarantined)]
    assert bad.reason == "its question stands in the official test split as well (pqa_labeled-0000)"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Hallucinated Answer": "they  DO."}, "the hallucinated answer is the true one"),
        ({"Ground Truth": ""}, "'Ground Truth' is empty"),
        ({"Knowledge": []}, "'Knowledge' is list; expected a list of texts"),
    ],
)
def test_faulty_questions_are_set_aside(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    (tmp_path / "medhallu_pqa_labeled.jsonl").write_text(json.dumps(ROW | change))
    assert list(MedHallu(str(tmp_path)).records()) == [Quarantined("medhallu", "medhallu_pqa_labeled.jsonl:1", reason)]


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected pqa_labeled/.*card data/medhallu\.md"):
        list(MedHallu(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    examples = [
        one for one in MedHallu(str(shared_data / "15_hallucination_error")).records() if isinstance(one, Example)
    ]
    counts = read_card("medhallu").counts
    assert len(examples) == counts["examples"] == 2000
    assert len({one.patient for one in examples}) == counts["questions"] == 1000
    levels = Counter(one.attributes["difficulty"] for one in examples)
    assert levels == {level: 2 * counts[f"difficulty {level}"] for level in ("easy", "medium", "hard")}


@pytest.mark.shared
def test_all_its_questions_are_those_of_pubmedqa_and_half_of_them_tested_on_there(shared_data: Path) -> None:
    questions = {
        one.question.casefold(): one.split
        for one in PubMedQa(str(shared_data / "07_qa_pubmedqa"), context=False).records()
        if isinstance(one, Example)
    }
    lines = (shared_data / "15_hallucination_error" / "medhallu_pqa_labeled.jsonl").read_text().splitlines()
    splits = Counter(questions.get(json.loads(line)["Question"].strip().casefold()) for line in lines)
    counts = read_card("medhallu").counts
    assert None not in splits and splits.total() == counts["questions of PubMedQA"]
    assert splits["test"] == counts["questions of PubMedQA's test set"] == 500
