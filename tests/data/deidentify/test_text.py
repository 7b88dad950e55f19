"""What is found in texts, and what is left alone."""

import itertools
import json
from pathlib import Path

import pytest

from benchmarks import deidentification as benchmark
from mmmed.data.deidentify import language_model, recognisers
from mmmed.data.deidentify.entities import Finding, without_overlap
from mmmed.data.deidentify.surrogates import Surrogates
from mmmed.data.deidentify.text import clean, find, find_together
from mmmed.errors import PrivacyError

KEY = b"a key of sixteen bytes or more"


def found(text: str) -> dict[str, str]:
    return {text[one.start : one.end]: one.kind for one in find(text)}


@pytest.mark.parametrize(
    ("text", "phi", "kind"),
    [
        ("Seen by Dr. Okonkwo today.", "Okonkwo", "name"),
        ("Pt: MARTINEZ, KYLE", "MARTINEZ, KYLE", "name"),
        ("Electronically signed by Hector Bowen, MD, on Monday.", "Hector Bowen", "name"),
        ("Mr. Ward reports pain.", "Ward", "name"),
        ("Médico: Francisco Arnaiz de las Revillas NºCol: 39 39 67845.", "Francisco Arnaiz de las Revillas", "name"),
        ("Her daughter Anna S. called.", "Anna S.", "name"),
        ("as Faina D. Yefremova says", "Faina D. Yefremova", "name"),
        ("Katrine asked for her results.", "Katrine", "name"),
        ("results of Krisztián Szöllösy are here", "Krisztián Szöllösy", "name"),
        ("and the film of Rintanen was lost", "Rintanen", "name"),
        ("Call Ushurma Dratchev tomorrow", "Ushurma Dratchev", "name"),
        ("I told my kid Dzhambek everything", "Dzhambek", "name"),
        ("Sometimes people call me Piusz", "Piusz", "name"),
        ("Follow up with Jan Jílek in a couple of months.", "Jan Jílek", "name"),
        ("ask ms. Quinzia about it", "Quinzia", "name"),
        ("Don't go to town, Mark!", "Mark", "name"),
        ("they had six: leonti, terrence, pamela, donna and brian.", "leonti", "name"),
        ('Gijsbrecht: "Who are you?"\nAshley: "Nobody."', "Gijsbrecht", "name"),
        ("DOB: 03/04/1958", "03/04/1958", "date"),
        ("admitted on May 30th, 2022 with", "May 30th, 2022", "date"),
        ("on Nov 11th '23 with", "Nov 11th '23", "date"),
        ("fecha 22 de febrero de 2012 y", "22 de febrero de 2012", "date"),
        ("discharged 25-Mar-23.", "25-Mar-23", "date"),
        ("since last March she", "March", "date"),
        ("retired in sep-04 for", "sep-04", "date"),
        ("a 94-year-old man", "94", "age"),
        ("call 951.830.2022 now", "951.830.2022", "phone"),
        ("Tel: +41 (0)62 585 51 90", "+41 (0)62 585 51 90", "phone"),
        ("Tel.: + 34 93 693 29 05.", "+ 34 93 693 29 05", "phone"),
        ("Fax: 650-123-4567", "650-123-4567", "fax"),
        ("write to j.doe+x@mail.example.org.", "j.doe+x@mail.example.org", "email"),
        ("E-mail: marias.alfageme@ juntadeandalucia.es today", "marias.alfageme@ juntadeandalucia.es", "email"),
        ("correo: vtomicic@alemana. Tel", "vtomicic@alemana", "email"),
        ("see https://portal.example.org/p/12 for", "https://portal.example.org/p/12", "url"),
        ("from 172.61.42.192 at", "172.61.42.192", "ip_address"),
        ("SSN: 151-72-4326", "151-72-4326", "ssn"),
        ("Medical Record #H58317101", "#H58317101", "record_number"),
        ("Accession: 71059268", "71059268", "accession"),
        ("Insurance ID: CIP053880265", "CIP053880265", "health_plan"),
        ("Account no. 9876543210", "9876543210", "account"),
        ("NPI 1234567893", "1234567893", "licence"),
        ("License plate: 7ABC123", "7ABC123", "vehicle"),
        ("pacemaker serial PJN4821990", "PJN4821990", "device"),
        ("credit card 4454794511390933 was", "4454794511390933", "account"),
        ("image 1.2.826.0.1.3680043.8.498.2098 of", "1.2.826.0.1.3680043.8.498.2098", "identifier"),
        ("lives at 123 Park Drive, Apt 4", "123 Park Drive, Apt 4", "address"),
        ("Shawnborough, WV 89257", "Shawnborough, WV 89257", "place"),
        ("at St. Wayne's Medical Center today", "St. Wayne's Medical Center", "institution"),
    ],
)
def test_each_kind_of_identifier_is_found_whole(text: str, phi: str, kind: str) -> None:
    assert found(text).get(phi) == kind, found(text)


@pytest.mark.parametrize(
    "text",
    [
        "Kerley B lines and a small pleural effusion.",
        "History of Hodgkin lymphoma and Parkinson's disease.",
        "Hepatitis B. Patient Education. Factor V. Leiden and Vitamin D. Deficiency.",
        "Negative Lachman and McMurray tests. Foley catheter in place.",
        "The patient's mother said Tylenol helps; her sister takes Zoloft.",
        "Worsening dyspnea. Whisky daily. Lesson learned: Tarceva was stopped.",
        "Symptoms: nausea, vomiting and fever. Assessment: stable. Plan: rest.",
        "Guillain-Barré syndrome, Crohn's disease, Ehlers-Danlos.",
        "BP 132/80, HR 84, SpO2 98%, temperature 100.4, A1c 7.2.",
        "Lisinopril 20 mg daily; metformin 1000 mg twice a day, 5/5 strength, T2-weighted MRI.",
        "Glucose between 120-140 mg/dL and platelets 250,000 per cell.",
        "A 57-year-old man with COVID-19, HLA-B27 and an L4-L5 fusion in 2019.",
        "CHIEF COMPLAINT\n\nBack pain.\n\nPatient Education and Counseling: done.",
        "Is there evidence of an aortic aneurysm in the right lower lobe?",
        "",
    ],
)
def test_medicine_is_left_alone(text: str) -> None:
    assert found(text) == {}


def test_a_name_is_replaced_wherever_it_stands_and_always_by_the_same() -> None:
    note = "Patient: Santiago, Paula\nMrs. Santiago has been travelling. Paula denies pain. SANTIAGO was told."
    (cleaned,) = clean([note], Surrogates(KEY, patient="1"))
    assert "antiago" not in cleaned.text.lower()
    assert "paula" not in cleaned.text.lower()
    surname = cleaned.text.split()[1].rstrip(",")
    assert f"Mrs. {surname} has" in cleaned.text
    assert f"{surname.upper()} was told" in cleaned.text


def test_what_is_found_in_one_text_of_a_patient_is_replaced_in_all() -> None:
    texts = ["Mr. Abernathy came, MRN 00817263.", "Where did Abernathy go?", "see 00817263"]
    first, second, third = clean(texts, Surrogates(KEY, patient="1"))
    surname = first.text.split()[1]
    assert second.text == f"Where did {surname} go?"
    assert "00817263" not in third.text
    assert third.text.split()[1] in first.text


def test_known_identifiers_are_found_without_a_label() -> None:
    (some,) = find_together(["lying on the table 77-Q-12 again"], known=["77-Q-12"])
    assert [(one.kind, one.rule) for one in some] == [("identifier", "known value")]


def test_the_model_reads_only_the_lines_in_which_rules_left_a_word_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "dictionary", lambda: frozenset({"seen", "by", "then"}))
    text = "Seen by Dr. Okonkwo.\nThen by Zyxtane.\nThen seen."
    lines = language_model._lines_with_names(text, find(text))
    assert [text[one.start : one.end] for one in lines] == ["Then by Zyxtane."]


def test_a_failing_recogniser_stops_the_run_and_quotes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str, mode: str) -> list[Finding]:
        raise ValueError(f"cannot read {text}")

    monkeypatch.setattr("mmmed.data.deidentify.text.analyse", fail)
    with pytest.raises(PrivacyError, match=r"failed \(ValueError\)") as raised:
        find("Mr. Abernathy")
    assert "Abernathy" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("text", ["", " ", "?", "3", "3 cm", "yes", "A", "€ 5", "ab\u0301c", "\n\n- \n"])
def test_a_text_of_next_to_nothing_holds_nothing(text: str) -> None:
    assert find(text) == []


def test_the_engine_has_no_recogniser_but_ours() -> None:
    names = {one.name for one in recognisers.engine("rules").registry.recognizers}
    assert names == {"contacts", "records", "dates", "places", "ages", "names"}


def test_overlapping_findings_are_joined_and_nothing_between_them_is_lost() -> None:
    pieces = [
        Finding(0, 4, "name", "a"),
        Finding(3, 9, "date", "b"),
        Finding(9, 12, "phone", "c"),
        Finding(5, 6, "age", "d"),
    ]
    for order in itertools.permutations(pieces):
        joined = without_overlap(order)
        assert [(one.start, one.end) for one in joined] == [(0, 9), (9, 12)]
        assert joined[0].kind == "date"


@pytest.mark.shared
@pytest.mark.slow
def test_recall_and_precision_on_the_labelled_sets(shared_data: Path) -> None:
    tallies = benchmark.score(shared_data / "10_deid", "rules")
    for name in ("ASQ-PHI", "clinical notes"):
        for half in ("seen", "held out"):
            tally = tallies[name, half]
            assert all(tally.recall(kind) >= 0.98 for kind in benchmark.ASKED if tally.asked[kind])
            assert tally.precision() >= 0.9
    spanish = tallies["MEDDOCAN (es)", "held out"]
    assert spanish.recall("name") >= 0.98
    assert spanish.precision() >= 0.9
    # Song lyrics and shopping dialogues with names of thirty countries: rules do not get there alone.
    strangers = tallies["Presidio v2", "held out"]
    assert strangers.recall("identifier") >= 0.98
    assert strangers.recall("name") >= 0.91
    together = benchmark.totals(tallies)
    for half in ("seen", "held out"):
        assert all(together["all", half].recall(kind) >= 0.975 for kind in benchmark.ASKED)
        assert together["all", half].precision() >= 0.95


@pytest.mark.shared
def test_labels_of_the_sets_point_at_their_text(shared_data: Path) -> None:
    for file in benchmark.SETS.values():
        for line in (shared_data / "10_deid" / file).read_text(encoding="utf-8").splitlines()[:50]:
            record = json.loads(line)
            assert all(record["text"][span["start"] : span["end"]] == span["text"] for span in record["spans"])
