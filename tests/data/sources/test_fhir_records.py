import json
import re
from collections import Counter
from pathlib import Path

import pytest

from mmmed.data.card import read_card
from mmmed.data.sources.fhir_records import FhirRecords
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined


def write(root: Path, name: str, *, patient: str = "p1", days: int = 1) -> None:
    resources = [
        {"resourceType": "Patient", "id": patient, "birthDate": "1950-01-01", "gender": "male"},
        *(
            {"resourceType": "Procedure", "code": {"text": f"Step {day}"}, "performedDateTime": f"19{60 + day}-01-01"}
            for day in range(days)
        ),
    ]
    text = json.dumps({"resourceType": "Bundle", "entry": [{"resource": one} for one in resources]})
    (root / name).write_text(text, encoding="utf-8")


def test_a_bundle_is_one_document_and_is_not_called_by_its_file(tmp_path: Path) -> None:
    write(tmp_path, "Maria_Kowalska.json", days=2)
    (example,) = FhirRecords(str(tmp_path)).records()
    assert isinstance(example, Example)
    assert (example.id, example.patient, example.topic) == ("bundle 1#0", "p1", "document")
    (turn,) = example.turns
    assert turn.speaker == "document"
    assert turn.text == "Man.\n\nAt 10 years:\nProcedure: Step 0.\n\nAt 11 years:\nProcedure: Step 1."
    assert example.attributes == {"sex": "M", "age": 11.0}


def test_long_records_are_cut_between_days_and_stay_in_one_split(tmp_path: Path) -> None:
    write(tmp_path, "a.json", days=30)
    records = list(FhirRecords(str(tmp_path), longest=200).records())
    examples = [one for one in records if isinstance(one, Example)]
    assert len(examples) == len(records) > 3
    assert len({one.split for one in examples}) == 1
    assert all(one.turns[0].text.startswith(("Man.", "At ")) and len(one.turns[0].text) <= 200 for one in examples)
    with pytest.raises(ConfigError, match="longest is 0"):
        FhirRecords(str(tmp_path), longest=0)


def test_bundles_that_cannot_be_read_are_set_aside_without_the_name_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "Maria_Kowalska.json").write_bytes(b'{"resourceType": "Bundle", "entry')
    (tmp_path / "Nora.json").write_text("[]")
    write(tmp_path, "good.json")
    write(tmp_path, "twice.json")
    torn, listed, _, twice = FhirRecords(str(tmp_path)).records()
    for bad, reason in (
        (torn, "JSONDecodeError"),
        (listed, "expected a bundle, not list"),
        (twice, "has a bundle before"),
    ):
        assert isinstance(bad, Quarantined)
        assert reason in bad.reason
        assert re.fullmatch(r"bundle \d", bad.record) and "Kowalska" not in bad.reason


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"FHIR R4 bundle for each patient; .*card data/fhir_records\.md"):
        list(FhirRecords(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card_and_nothing_that_names_a_patient(shared_data: Path) -> None:
    root = shared_data / "12_fhir" / "synthea_r4"
    records = list(FhirRecords(str(root)).records())
    examples = [one for one in records if isinstance(one, Example)]
    counts = read_card("fhir_records").counts
    assert len(records) == len(examples) == len({one.patient for one in examples}) == counts["patients"] == 12
    assert Counter(one.attributes["sex"] for one in examples) == {"F": counts["women"], "M": counts["men"]}
    assert sum(one.turns[0].text.count("Imaging: ") for one in examples) == counts["imaging studies"]
    for path, example in zip(sorted(root.glob("*.json")), examples, strict=True):
        resources = [entry["resource"] for entry in json.loads(path.read_text(encoding="utf-8"))["entry"]]
        (patient,) = (one for one in resources if one["resourceType"] == "Patient")
        names = {word for name in patient["name"] for word in (name["family"], *name["given"])}
        numbers = {one["value"] for one in (*patient["identifier"], *patient["telecom"])}
        places = {patient["address"][0]["city"], *patient["address"][0]["line"], patient["birthDate"], patient["id"]}
        text = example.turns[0].text
        assert not [one for one in names | numbers | places if re.search(rf"\b{re.escape(one)}\b", text)]
        assert not re.search(r"\b(?:19|20)\d\d-\d\d", text)
