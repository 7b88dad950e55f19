import csv
from collections import Counter
from pathlib import Path

import pytest

from mmmed.data.card import read_card
from mmmed.data.sources.aci_bench import AciBench
from mmmed.data.splits import check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

VISIT = {
    "dataset": "aci",
    "encounter_id": "D2N001",
    "dialogue": "[doctor] hi , martha .\n[patient] hi .",
    "note": "CHIEF COMPLAINT\n\nBack pain.",
}
ABOUT = {
    "dataset": "aci",
    "encounter_id": "D2N001",
    "id": "ACI064",
    "doctor_name": "",
    "patient_gender": "female ",
    "patient_age": "50.0",
    "patient_firstname": "martha",
    "patient_familyname": "collins",
    "cc": "back pain",
    "2nd_complaints": "",
}


def write(path: Path, *rows: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_release_and_sample_give_the_same_visit(tmp_path: Path) -> None:
    folder = tmp_path / "release" / "data" / "challenge_data"
    write(folder / "train.csv", VISIT)
    # Metadata are joined by visit, since nothing says that lines match.
    write(folder / "train_metadata.csv", ABOUT | {"encounter_id": "D2N002", "cc": "cough"}, ABOUT)
    write(tmp_path / "sample" / "aci_train.csv", VISIT | ABOUT)
    (released,) = AciBench(str(tmp_path / "release")).records()
    (sampled,) = AciBench(str(tmp_path / "sample")).records()
    assert released == sampled
    assert isinstance(released, Example)
    assert (released.id, released.patient, released.split) == ("D2N001", "D2N001", "train")
    assert released.turns[0].text.startswith("[doctor] hi , martha .\n[patient] hi .\n\nWrite the clinical note")
    assert released.reference == "CHIEF COMPLAINT\n\nBack pain."
    assert released.attributes == {
        "sex": "F",
        "age": 50.0,
        "collection": "aci",
        "complaint": "back pain",
        "official_split": "train",
    }
    assert "collins" not in str(released)


@pytest.mark.parametrize(("age", "years"), [("9-month", 0.75), ("22-month", 1.83), ("100", 100.0), ("", None)])
def test_ages_are_in_years(tmp_path: Path, age: str, years: float | None) -> None:
    write(tmp_path / "aci_valid.csv", VISIT | ABOUT | {"patient_age": age})
    (example,) = AciBench(str(tmp_path)).records()
    assert isinstance(example, Example) and example.attributes.get("age") == years


def test_faulty_visits_are_set_aside(tmp_path: Path) -> None:
    write(tmp_path / "aci_test1.csv", VISIT | ABOUT)
    changes = ({"note": ""}, {"patient_gender": "x"}, {"patient_age": "old"}, {})
    rows = [VISIT | ABOUT | {"dialogue": f"[doctor] {number}"} | change for number, change in enumerate(changes)]
    write(tmp_path / "aci_train.csv", *rows[:3], VISIT | ABOUT | {"encounter_id": "D2N009"})
    reasons = [one.reason for one in AciBench(str(tmp_path)).records() if isinstance(one, Quarantined)]
    assert reasons == [
        "'note' is empty",
        "'patient_gender' is 'x'; expected female, male or nothing",
        "'old' is no age between 0 and 120 years",
        "its dialogue stands in the official test split as well (D2N001)",
    ]


def test_an_empty_root_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train\.csv with train_metadata\.csv.*card data/aci_bench\.md"):
        list(AciBench(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    records = list(AciBench(str(shared_data / "11_dialogue_notes")).records())
    examples = [record for record in records if isinstance(record, Example)]
    check_disjoint(examples)
    counts = read_card("aci_bench").counts
    assert len(examples) == len(records) == counts["visits"] == 127
    assert Counter(one.attributes["official_split"] for one in examples) == {
        name: counts[name] for name in ("train", "validation", "test1")
    }
    assert Counter(one.attributes.get("sex") for one in examples) == {"M": 64, "F": 60, None: 3}
    assert sum("age" in one.attributes for one in examples) == 127 - 22
