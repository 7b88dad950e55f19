import csv
import logging
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mmmed.data.card import read_card
from mmmed.data.sources.covid_chestxray import FINDING_QUESTION, CovidChestXray
from mmmed.data.splits import Fractions, check_disjoint
from mmmed.errors import DataError
from mmmed.records import Example, Quarantined

RELEASE = {
    "patientid": "5",
    "offset": "3.0",
    "sex": "F",
    "age": "61.0",
    "finding": "Pneumonia/Viral/COVID-19",
    "view": "PA",
    "modality": "X-ray",
    "folder": "images",
    "filename": "a.png",
    "license": "CC BY-SA",
    "clinical_notes": "Patchy opacities in both lungs.",
    "other_notes": "",
}
SAMPLE = {
    "image": "images/a.png",
    "patient_id": "covid_5",
    "offset_days": "3",
    "sex": "F",
    "age": "61",
    "finding": "COVID-19, ARDS",
    "view": "PA",
    "modality": "X-ray",
    "clinical_notes": "Patchy opacities in both lungs.",
    "license": "CC BY-SA",
    "source_filename": "a.png",
}


def write(root: Path, rows: list[dict[str, str]]) -> str:
    (root / "images").mkdir(exist_ok=True)
    Image.new("L", (4, 4)).save(root / "images" / "a.png")
    Image.new("L", (4, 4)).save(root / "images" / "b.png")
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(root)


def examples(source: CovidChestXray) -> list[Example]:
    records = list(source.records())
    assert not [record for record in records if isinstance(record, Quarantined)]
    return [record for record in records if isinstance(record, Example)]


@pytest.mark.parametrize("row", [RELEASE, SAMPLE])
def test_both_layouts_give_the_same_questions(tmp_path: Path, row: dict[str, str]) -> None:
    report, finding = examples(CovidChestXray(write(tmp_path, [row])))
    assert (report.id, report.topic, report.reference) == ("a.png:report", "report", "Patchy opacities in both lungs.")
    assert report.question == "Describe this chest radiograph and the case."
    assert (finding.id, finding.question, finding.reference) == ("a.png:finding", FINDING_QUESTION, "yes")
    assert finding.options == ("yes", "no")
    for example in (report, finding):
        assert example.turns[0].text.startswith("<image>\n")
        assert (example.patient, example.study, example.licence) == ("covid_5", "covid_5@3", "CC BY-SA")
        assert (example.attributes["sex"], example.attributes["age"], example.attributes["view"]) == ("F", 61.0, "PA")
        assert example.images[0].open().size == (4, 4)
        assert example.split == "validation"


def test_other_findings_are_no_and_unlabelled_ones_are_not_asked(tmp_path: Path) -> None:
    rows = [
        SAMPLE | {"finding": "Pneumonia/Bacterial/Klebsiella", "source_filename": "1"},
        SAMPLE | {"finding": "todo", "source_filename": "2"},
        SAMPLE | {"finding": "Unknown", "source_filename": "3"},
        SAMPLE | {"finding": "No Finding", "source_filename": "4"},
    ]
    found = examples(CovidChestXray(write(tmp_path, rows), questions=["finding"]))
    assert [(example.id, example.reference) for example in found] == [("1:finding", "no"), ("4:finding", "no")]


def test_images_without_a_note_are_not_described_but_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(tmp_path, [SAMPLE, SAMPLE | {"clinical_notes": "", "source_filename": "b"}])
    with caplog.at_level(logging.INFO):
        assert [example.id for example in examples(CovidChestXray(root, questions=["report"]))] == ["a.png:report"]
    assert caplog.messages == ["covid_chestxray: 1 of 2 images have no note and are not described"]


def test_ct_is_read_only_when_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path, [SAMPLE, SAMPLE | {"modality": "CT", "source_filename": "ct"}])
    assert {example.attributes["modality"] for example in examples(CovidChestXray(root))} == {"X-ray"}
    (ct,) = examples(CovidChestXray(root, questions=["report"], modalities=["CT"]))
    assert ct.question == "Describe this chest CT image and the case."


@pytest.mark.parametrize(("first", "second", "patient"), [("178", "97", "covid_97"), ("30.0", "covid_31", "covid_30")])
def test_one_person_under_two_numbers_is_one_patient(tmp_path: Path, first: str, second: str, patient: str) -> None:
    rows = [RELEASE | {"patientid": first}, RELEASE | {"patientid": second, "filename": "b.png"}]
    assert {example.patient for example in examples(CovidChestXray(write(tmp_path, rows)))} == {patient}


def test_unknown_facts_are_absent(tmp_path: Path) -> None:
    row = SAMPLE | {"sex": "", "age": "", "view": "?", "offset_days": "?", "license": "", "finding": "todo"}
    (report,) = examples(CovidChestXray(write(tmp_path, [row])))
    assert (report.study, report.licence, dict(report.attributes)) == ("", "not stated", {"modality": "X-ray"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"filename": "gone.png"}, "image 'images/gone.png' is missing"),
        ({"patientid": ""}, "'patientid' is empty"),
        ({"filename": ""}, "'filename' is empty"),
        ({"sex": "X"}, "'sex' is 'X'; expected M, F or nothing"),
        ({"age": "610"}, "'610' is no age between 0 and 120 years"),
        ({"clinical_notes": "see <image>"}, "placeholders for 1 images"),
        ({}, "the identifier 'a.png:report' is used before"),
    ],
)
def test_malformed_rows_are_set_aside(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    *good, bad = CovidChestXray(write(tmp_path, [RELEASE, RELEASE | change])).records()
    assert len(good) == 2
    assert isinstance(bad, Quarantined)
    assert (bad.source, bad.record) == ("covid_chestxray", "metadata.csv:3")
    assert reason in bad.reason


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    row = {name: value for name, value in RELEASE.items() if name != "finding"}
    with pytest.raises(DataError, match=r"metadata\.csv lacks the column\(s\) 'finding'; it has 'patientid', "):
        list(CovidChestXray(write(tmp_path, [row])).records())


def test_an_empty_root_says_what_was_expected_and_where_to_get_it(tmp_path: Path) -> None:
    message = r"no data set under root .*; expected metadata\.csv .*card data/covid_chestxray\.md"
    with pytest.raises(DataError, match=message):
        list(CovidChestXray(str(tmp_path)).records())


@pytest.mark.shared
def test_the_sample_has_the_counts_of_its_card(shared_data: Path) -> None:
    root = str(shared_data / "01_cxr_notes_covid")
    found = examples(CovidChestXray(root))
    check_disjoint(found)
    topics = Counter(example.topic for example in found)
    counts = read_card("covid_chestxray").counts
    assert len({example.images[0].name for example in found}) == counts["X-ray images"] == 236
    assert len({example.patient for example in found}) == counts["X-ray patients"] == 121
    # Two croppings of one film, looked at: both numbers are the patient 30.
    films = {Path(one.images[0].name).name.split("_")[1] for one in found if one.patient == "covid_30"}
    assert films == {"p30", "p31"}
    assert topics == {"report": counts["report questions"], "finding": counts["finding questions"]}
    assert sum(example.reference == "yes" for example in found) == counts["finding answers yes"]
    notes = {example.reference for example in found if example.topic == "report"}
    assert len(notes) == counts["distinct notes on X-ray images"]
    both = examples(CovidChestXray(root, modalities=["X-ray", "CT"], fractions=Fractions(1, 0, 0)))
    assert len({example.images[0].name for example in both}) == counts["rows"] == 266
    assert {example.split for example in both} == {"train"}
