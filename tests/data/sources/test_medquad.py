import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from mmmed.data.card import read_card
from mmmed.data.sources.medquad import MedQuad
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<Document id="0000001_1" source="CancerGov" url="https://example.org">
<Focus>Adult Leukemia</Focus>
<QAPairs>
  <QAPair pid="1">
    <Question qid="0000001_1-1" qtype="information">What is (are) Adult Leukemia ?</Question>
    <Answer>Key Points
      - a cancer &amp; more.</Answer>
  </QAPair>
  <QAPair pid="2">
    <Question qid="0000001_1-2" qtype="outlook">What is the outlook for Adult Leukemia ?</Question>
    <Answer></Answer>
  </QAPair>
</QAPairs>
</Document>
"""


def release(root: Path, document: str = DOCUMENT) -> str:
    (root / "1_CancerGov_QA").mkdir()
    (root / "1_CancerGov_QA" / "0000001_1.xml").write_text(document)
    return str(root)


def test_the_release_is_read_and_a_withdrawn_answer_set_aside(tmp_path: Path) -> None:
    example, bad = MedQuad(release(tmp_path)).records()
    assert isinstance(example, Example)
    assert (example.id, example.patient, example.topic) == ("0000001_1-1", "adult leukemia", "answer")
    assert (example.question, example.reference) == ("What is (are) Adult Leukemia ?", "Key Points - a cancer & more.")
    assert example.attributes == {"collection": "1_CancerGov_QA", "question_type": "information"}
    assert bad == Quarantined("medquad", "1_CancerGov_QA/0000001_1.xml#2", "'answer' is empty")


def test_the_hub_says_the_same(tmp_path: Path) -> None:
    row = {
        "document_source": "1_CancerGov_QA",
        "question_id": "0000001_1-1",
        "question_focus": "Adult Leukemia",
        "question_type": "information",
        "question": "What is (are) Adult Leukemia ?",
        "answer": "Key Points\n - a cancer & more.",
    }
    (tmp_path / "hub" / "data").mkdir(parents=True)
    table = pyarrow.Table.from_pylist([row, row | {"question_id": "0000001_1-2", "answer": None}])
    parquet.write_table(table, tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    of_hub, of_release = (MedQuad(root).records() for root in (str(tmp_path / "hub"), release(tmp_path)))
    assert next(of_hub) == next(of_release)
    assert isinstance(next(of_hub), Quarantined)


def test_questions_about_one_disease_share_a_split_whoever_answers(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"{number}_1",
            "source": "2_GARD_QA",
            "focus": f"Disease {number % 50}" if number < 50 else f"DISEASE  {number % 50}",
            "qtype": "information",
            "question": f"What is {number} ?",
            "answer": "Rare.",
        }
        for number in range(100)
    ]
    (tmp_path / "medquad_sample.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = [record for record in MedQuad(str(tmp_path)).records() if isinstance(record, Example)]
    check_disjoint(examples)
    assert len(examples) == 100 and len({example.patient for example in examples}) == 50
    assert {example.split for example in examples} == {"train", "validation", "test"}


def test_a_damaged_document_is_set_aside(tmp_path: Path) -> None:
    (bad,) = MedQuad(release(tmp_path, DOCUMENT[:300])).records()
    assert isinstance(bad, Quarantined)
    assert bad.record == "1_CancerGov_QA/0000001_1.xml" and bad.reason.startswith("no XML")


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected folders of XML .*card data/medquad\.md"):
        list(MedQuad(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    examples = [
        one for one in MedQuad(str(shared_data / "16_consumer_health_qa")).records() if isinstance(one, Example)
    ]
    check_disjoint(examples)
    counts = read_card("medquad").counts
    assert len(examples) == counts["questions"] == 4000
    assert len({example.patient for example in examples}) == counts["diseases"]
    # Several questions come from one document, whose number is no identifier of a question.
    assert len({example.id.partition(":")[0] for example in examples}) == counts["documents"]
    assert len({example.reference.casefold() for example in examples}) == counts["distinct answers"]
