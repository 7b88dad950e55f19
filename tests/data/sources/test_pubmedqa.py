import json
import math
from collections import Counter
from pathlib import Path
from random import Random

import pyarrow
import pytest
from pyarrow import parquet

from mmmed.data.card import read_card
from mmmed.data.source import read
from mmmed.data.sources.pubmedqa import PubMedQa, official_folds
from mmmed.data.splits import check_disjoint
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined


def question(number: int, decision: str) -> dict[str, object]:
    return {
        "QUESTION": f"Does {number} help?",
        "CONTEXTS": [f"Background {number}.", "Results."],
        "LABELS": ["BACKGROUND", "RESULTS"],
        "YEAR": "2011",
        "reasoning_required_pred": "maybe",
        "final_decision": decision,
        "LONG_ANSWER": "It helps, we conclude.",
    }


def published(count: int = 40) -> dict[str, dict[str, object]]:
    """As many questions as wanted, a quarter of them no and none of them maybe."""
    return {str(100 + number): question(number, "no" if number % 4 == 0 else "yes") for number in range(count)}


def published_half(questions: dict[str, dict[str, object]]) -> list[str]:
    """The test half by the published rule, for whole numbers of each answer."""
    chance, test = Random(0), []
    for decision in ("yes", "no"):
        pmids = [pmid for pmid, one in questions.items() if one["final_decision"] == decision]
        chance.shuffle(pmids)
        test += pmids[math.ceil(len(pmids) / 2) :]
    return test


def write(root: Path, questions: dict[str, dict[str, object]], test: list[str]) -> str:
    root.mkdir(exist_ok=True)
    (root / "ori_pqal.json").write_text(json.dumps(questions))
    (root / "test_ground_truth.json").write_text(json.dumps(dict.fromkeys(test, "yes")))
    return str(root)


def examples(source: PubMedQa) -> list[Example]:
    return [record for record in source.records() if isinstance(record, Example)]


def test_the_abstract_is_shown_or_hidden_and_the_conclusion_never_shown(tmp_path: Path) -> None:
    questions = published()
    root = write(tmp_path, questions, published_half(questions))
    shown, hidden = examples(PubMedQa(root))[5], examples(PubMedQa(root, context=False))[5]
    assert shown.turns[0].text == "Abstract: Background 5.\nResults.\nQuestion: Does 5 help?"
    assert hidden.turns[0].text == "Does 5 help?"
    assert (shown.id, shown.patient, shown.topic) == ("105", "105", "decision")
    assert (shown.reference, shown.options) == ("yes", ("yes", "no", "maybe"))
    assert (shown.attributes["year"], shown.attributes["annotator"]) == ("2011", "maybe")


def test_test_questions_are_the_published_ones_and_one_fold_validates(tmp_path: Path) -> None:
    questions = published()
    test = published_half(questions)
    root = write(tmp_path / "data", questions, test).removesuffix("/data")
    held: list[str] = []
    for fold in range(10):
        found = examples(PubMedQa(root, fold=fold))
        check_disjoint(found)
        assert {one.id for one in found if one.split == "test"} == set(test)
        assert all(one.attributes["fold"] == fold for one in found if one.split == "validation")
        held += [one.id for one in found if one.split == "validation"]
    # Each question that is not tested on validates in one fold.
    assert sorted(held) == sorted(set(questions) - set(test))


def test_questions_in_another_order_are_refused_since_their_folds_would_be_others(tmp_path: Path) -> None:
    questions = published()
    root = write(tmp_path, dict(reversed(questions.items())), published_half(questions))
    with pytest.raises(DataError, match="questions are on the wrong side of the published test set"):
        list(PubMedQa(root).records())


def test_faulty_questions_are_set_aside(tmp_path: Path) -> None:
    questions = published()
    test = published_half(questions)
    questions["101"]["CONTEXTS"] = "one text"
    questions["102"]["QUESTION"] = None
    faults = [one for one in PubMedQa(write(tmp_path, questions, test)).records() if isinstance(one, Quarantined)]
    assert faults == [
        Quarantined("pubmedqa", "101", "'CONTEXTS' is 'one text'; expected a list of texts"),
        Quarantined("pubmedqa", "102", "'QUESTION' is empty"),
    ]


def test_the_hub_says_the_same(tmp_path: Path) -> None:
    questions = published()
    root = Path(write(tmp_path, questions, published_half(questions)))
    expected = [(one.id, one.turns, one.split) for one in examples(PubMedQa(str(root)))]
    (root / "ori_pqal.json").unlink()
    (root / "pqa_labeled").mkdir()
    rows = [
        {
            "pubid": int(pmid),
            "question": one["QUESTION"],
            # The hub holds the annotator's answer letter by letter.
            "context": {"contexts": one["CONTEXTS"], "reasoning_required_pred": list("maybe")},
            "final_decision": one["final_decision"],
        }
        for pmid, one in questions.items()
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "pqa_labeled" / "train-00000-of-00001.parquet")
    found = examples(PubMedQa(str(root)))
    assert [(one.id, one.turns, one.split) for one in found] == expected
    assert found[0].attributes["annotator"] == "maybe"


def test_there_are_ten_folds() -> None:
    with pytest.raises(ConfigError, match="fold is 10; expected 0 to 9"):
        PubMedQa("somewhere", fold=10)


@pytest.mark.shared
def test_the_published_files_have_the_counts_of_the_card(shared_data: Path) -> None:
    source = PubMedQa(str(shared_data / "07_qa_pubmedqa"))
    found = examples(source)
    counts = read_card("pubmedqa").counts
    check_disjoint(found)
    assert len(found) == counts["questions"] == 1000
    assert Counter(one.reference for one in found) == {one: counts[f"answers {one}"] for one in ("yes", "no", "maybe")}
    test = read([source], "test").examples
    assert Counter(one.reference for one in test) == {"yes": 276, "no": 169, "maybe": 55}
    assert all(counts[f"test answers {answer}"] == count for answer, count in (("yes", 276), ("no", 169)))
    # Always yes is right for 55.2 %, and a single annotator for 78.0 %.
    assert sum(one.reference == one.attributes["annotator"] for one in test) / len(test) == 0.78
    assert Counter(one.split for one in found) == {"test": 500, "train": 450, "validation": 50}


@pytest.mark.shared
def test_the_drawing_gives_the_published_test_set_and_ten_folds_of_fifty(shared_data: Path) -> None:
    folder = shared_data / "07_qa_pubmedqa"
    questions = json.loads((folder / "ori_pqal.json").read_text())
    test = json.loads((folder / "test_ground_truth.json").read_text())
    folds = official_folds({pmid: one["final_decision"] for pmid, one in questions.items()}, list(test))
    assert [len(fold) for fold in folds] == [50] * 10
    assert set().union(*folds) == set(questions) - set(test)
