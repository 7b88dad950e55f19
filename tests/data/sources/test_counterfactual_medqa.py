import json
from collections import Counter
from pathlib import Path

import pytest

from mmmed.data.card import read_card
from mmmed.data.source import read
from mmmed.data.sources.counterfactual_medqa import CounterfactualMedQa
from mmmed.data.sources.medqa import MedQa
from mmmed.errors import DataError
from mmmed.records import Quarantined

ORIGINAL = {
    "id": "q7__original",
    "base_id": "q7",
    "variant": "original",
    "axis": "none",
    "value": "",
    "question": "A 26-year-old man has fever. What next?",
    "options": {"A": "Rest", "B": "Admit"},
    "answer": "B",
    "age": 26,
    "sex": "M",
}
RACE = ORIGINAL | {"id": "q7__race=Black", "variant": "race=Black", "axis": "race", "value": "Black"}
SEX = ORIGINAL | {"id": "q7__sex=woman", "variant": "sex=woman", "axis": "sex", "value": "F"}


def write(root: Path, *records: dict[str, object]) -> str:
    (root / "counterfactual_medqa.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(root)


def test_variants_of_a_vignette_share_its_base_and_its_answer(tmp_path: Path) -> None:
    original, race, sex = read([CounterfactualMedQa(write(tmp_path, ORIGINAL, RACE, SEX))], "test").examples
    assert {one.patient for one in (original, race, sex)} == {"q7"}
    assert {(one.reference, one.options, one.topic) for one in (original, race, sex)} == {
        ("Admit", ("Rest", "Admit"), "choice")
    }
    assert original.attributes == {"base_id": "q7", "variant": "original", "axis": "none", "age": 26.0, "sex": "M"}
    assert (race.attributes["axis"], race.attributes["value"]) == ("race", "Black")


def test_the_sex_is_that_of_the_text_where_a_variant_changed_it(tmp_path: Path) -> None:
    (sex,) = read([CounterfactualMedQa(write(tmp_path, SEX))], "test").examples
    assert sex.attributes["sex"] == "F"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": "A"}, "options or answer differ from those of an earlier variant of 'q7'"),
        ({"options": {"A": "Wait", "B": "Admit"}}, "options or answer differ"),
        ({"options": ["Rest", "Admit"]}, "'options' is list; expected an object"),
        ({"axis": "height"}, "'axis' is 'height'; expected one of none, race"),
        ({"value": ""}, "'axis' is 'race' and 'value' is ''"),
        ({"axis": "none"}, "'axis' is 'none' and 'value' is 'Black'"),
        ({"sex": "man"}, "the sex is 'man'; expected F or M"),
        ({"age": 411}, "'411' is no age"),
        ({"base_id": None}, "'base_id' is empty"),
        ({"id": "q7__original"}, "the identifier 'q7__original' is used before"),
    ],
)
def test_variants_that_cannot_be_paired_are_set_aside(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    _, bad = CounterfactualMedQa(write(tmp_path, ORIGINAL, RACE | change)).records()
    assert isinstance(bad, Quarantined)
    assert bad.record == "counterfactual_medqa.jsonl:2" and reason in bad.reason


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected counterfactual_medqa\.jsonl; .*card data/counterfactual_medqa\.md"):
        list(CounterfactualMedQa(str(tmp_path)).records())


@pytest.mark.shared
def test_the_file_has_the_counts_of_its_card_and_its_originals_are_those_of_medqa(shared_data: Path) -> None:
    records = read([CounterfactualMedQa(str(shared_data / "09_bias_counterfactual"))], "test")
    counts = read_card("counterfactual_medqa").counts
    assert not records.quarantined
    assert len(records.examples) == counts["questions"] == 2881
    assert len({one.attributes["base_id"] for one in records.examples}) == counts["vignettes"] == 300
    axes = Counter(str(one.attributes["axis"]) for one in records.examples)
    assert axes == {"none": 300, **{axis: counts[axis] for axis in ("race", "ses", "insurance", "sex")}}
    published = {one.id: one for one in read([MedQa(str(shared_data / "08_qa_mcq"))], "test").examples}
    originals = [one for one in records.examples if one.attributes["axis"] == "none"]
    assert all(one.turns == published[one.patient].turns for one in originals)
