import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from mmmed.data.card import read_card
from mmmed.data.sources.medec import Medec, numbered_sentences
from mmmed.data.sources.medqa import MedQa
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError, RecordError
from mmmed.records import Example, Quarantined

WRONG = {
    "Text ID": "ms-val-0",
    "Text": "A woman has a headache. It is gonorrhea. She rests.",
    "Sentences": "0 A woman has a headache.\n1 It is gonorrhea.\n2 She rests.\n",
    "Error Flag": "1",
    "Error Type": "causalOrganism",
    "Error Sentence ID": "1",
    "Error Sentence": "It is gonorrhea.",
    "Corrected Sentence": "It is trichomonas.",
    "Corrected Text": "A woman has a headache. It is trichomonas. She rests.",
}
RIGHT = {
    "Text ID": "ms-val-1",
    "Text": "A woman has a headache. She rests. It is trichomonas.",
    "Sentences": "0 A woman has a headache.\n1 She rests.\n2 It is trichomonas.\n",
    "Error Flag": "0",
    "Error Type": "NA",
    "Error Sentence ID": "-1",
    "Error Sentence": "NA",
    "Corrected Sentence": "NA",
    "Corrected Text": "NA",
}


def write(path: Path, *rows: dict[str, str]) -> str:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(WRONG))
        writer.writeheader()
        writer.writerows(rows)
    return str(path.parent)


@pytest.mark.parametrize("name", ["medec_ms_test.csv", "MEDEC-MS/MEDEC-MS-TestSet-with-GroundTruth-and-ErrorType.csv"])
def test_a_text_is_asked_for_its_error_the_sentence_and_the_correction(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, WRONG, RIGHT)
    flag, sentence, correction, clean = Medec(str(tmp_path)).records()
    assert isinstance(flag, Example) and isinstance(sentence, Example)
    assert isinstance(correction, Example) and isinstance(clean, Example)
    assert (flag.reference, clean.reference, flag.options) == ("yes", "no", ("yes", "no"))
    assert flag.turns[0].text.startswith("A woman has a headache. It is gonorrhea.")
    assert sentence.reference == "1 It is gonorrhea."
    assert sentence.options == ("0 A woman has a headache.", "1 It is gonorrhea.", "2 She rests.")
    assert (correction.reference, correction.options) == ("It is trichomonas.", ())
    # Both forms of a vignette are one patient, so that no interval takes them for two.
    assert {one.patient for one in (flag, sentence, correction, clean)} == {"ms-val-0"}
    assert flag.attributes == {"error_type": "causalOrganism", "official_split": "test"}
    assert clean.attributes == {"official_split": "test"}


def test_sentences_go_on_over_lines_that_bear_no_next_number() -> None:
    text = "0 Laboratory studies show:\n\nNa+ 137 mEq/\n1 Serum\n130 is the pulse.\n\n2 He rests.\n"
    assert numbered_sentences(text) == (
        "Laboratory studies show: Na+ 137 mEq/",
        "Serum 130 is the pulse.",
        "He rests.",
    )
    with pytest.raises(RecordError, match=r"begins with 'He rests\.'; expected sentence 0"):
        numbered_sentences("He rests.\n0 Again.")


def test_a_vignette_that_is_tested_on_is_not_learned_from(tmp_path: Path) -> None:
    write(tmp_path / "medec_ms_test.csv", WRONG)
    other = {"Text ID": "ms-train-1", "Sentences": "0 Another.", "Text": "Another."}
    root = write(tmp_path / "medec_ms_train.csv", RIGHT | {"Text ID": "ms-train-0"}, RIGHT | other)
    records = list(Medec(root, questions=["flag"]).records())
    check_disjoint(record for record in records if isinstance(record, Example))
    assert [record.id for record in records if isinstance(record, Example)] == ["ms-val-0:flag", "ms-train-1:flag"]
    assert [record.reason for record in records if isinstance(record, Quarantined)] == [
        "its vignette stands in the official test split as well (ms-val-0)"
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Text ID": ""}, "'Text ID' is empty"),
        ({"Error Flag": "2"}, "'Error Flag' is '2'"),
        ({"Error Sentence ID": "3"}, "'Error Sentence ID' is '3'; expected 0 to 2"),
        ({"Error Sentence ID": "-1"}, "'Error Sentence ID' is '-1'; expected 0 to 2"),
        ({"Error Sentence ID": "2"}, "'Error Sentence' is not sentence 2 of 'Sentences'"),
        ({"Corrected Sentence": "NA"}, "'Corrected Sentence' is absent from a text with an error"),
    ],
)
def test_faulty_texts_are_set_aside(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    (bad,) = Medec(write(tmp_path / "medec_ms_valid.csv", WRONG | change)).records()
    assert isinstance(bad, Quarantined) and bad.reason.startswith(reason)


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected MEDEC-MS-.*card data/medec\.md"):
        list(Medec(str(tmp_path)).records())


@pytest.mark.shared
def test_the_validation_set_has_the_counts_of_its_card(shared_data: Path) -> None:
    records = list(Medec(str(shared_data / "15_hallucination_error")).records())
    examples = [record for record in records if isinstance(record, Example)]
    assert len(examples) == len(records)
    counts = read_card("medec").counts
    flags = [one for one in examples if one.topic == "flag"]
    assert len(flags) == counts["texts"] == 574
    assert Counter(one.reference for one in flags) == {
        "yes": counts["texts with an error"],
        "no": counts["texts without an error"],
    }
    assert len({one.patient for one in flags}) == counts["vignettes"]
    kinds = Counter(one.attributes.get("error_type") for one in flags)
    assert {kind: count for kind, count in kinds.items() if kind} == {kind: counts[str(kind)] for kind in kinds if kind}
    assert all(one.reference[2:].strip() in one.question for one in examples if one.topic == "sentence")


@pytest.mark.shared
def test_its_vignettes_overlap_with_the_test_questions_of_medqa(shared_data: Path) -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[start : start + 13]) for start in range(len(words) - 12)}

    questions = MedQa(str(shared_data / "08_qa_mcq")).records()
    tested = set().union(*(runs(one.question) for one in questions if isinstance(one, Example)))
    texts = Medec(str(shared_data / "15_hallucination_error"), questions=["flag"]).records()
    shared = sum(bool(runs(one.question.rpartition("\n\n")[0]) & tested) for one in texts if isinstance(one, Example))
    assert shared == 226
    assert any("226 of 574 texts" in fault for fault in read_card("medec").faults)
