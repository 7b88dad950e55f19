"""A bundle becomes a readable record without anything that says who the patient is."""

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmmed.data.entries import Entry
from mmmed.data.health_record import HealthRecord, read_bundle
from mmmed.errors import RecordError

RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
PATIENT = {
    "resourceType": "Patient",
    "id": "7f1c9d",
    "birthDate": "1950-06-15",
    "gender": "female",
    "name": [{"use": "official", "family": "Kowalska", "given": ["Maria", "Eva"], "prefix": ["Mrs."]}],
    "telecom": [{"system": "phone", "value": "555-678-1234"}],
    "address": [{"line": ["12 Mill Lane"], "city": "Plymouth", "state": "MA", "country": "US"}],
    "identifier": [{"system": "http://hospital", "value": "MRN-00417"}],
    "extension": [{"url": RACE, "extension": [{"url": "ombCategory", "valueCoding": {"display": "White"}}]}],
    "contact": [{"relationship": [{"text": "Mother"}], "name": {"family": "Lindqvist"}}],
    "text": {"div": "<div>Maria Kowalska, born 1950</div>"},
}
DOCTOR = {"resourceType": "Practitioner", "id": "d-1", "name": [{"family": "Partida", "given": ["Luz"]}]}


def word(text: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://snomed.info/sct", "code": "1", "display": text}]}


def bundle(*resources: dict[str, Any], patient: dict[str, Any] = PATIENT) -> dict[str, Any]:
    entries = [{"fullUrl": f"urn:uuid:{one.get('id', '')}", "resource": one} for one in (patient, DOCTOR, *resources)]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def read(*resources: dict[str, Any], **changes: Any) -> HealthRecord:
    return read_bundle(Entry("bundle 1", bundle(*resources, patient=PATIENT | changes)))


def observation(text: str, day: str = "2001-02-03", **value: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": word(text), "effectiveDateTime": day, **value}


CONDITION = {
    "resourceType": "Condition",
    "code": word("Sinusitis (disorder)"),
    "onsetDateTime": "2001-02-03T10:00:00+01:00",
    "abatementDateTime": "2001-03-01",
}
GLUCOSE = observation("Glucose", id="g1", valueQuantity={"value": 97.1234, "unit": "mg/dL"})
REPORT = {
    "resourceType": "DiagnosticReport",
    "status": "final",
    "code": word("CT of chest"),
    "effectiveDateTime": "1999-06-15",
    "result": [{"reference": "urn:uuid:g1"}],
    "conclusion": "Mrs. KOWALSKA has a nodule, see MRN-00417; called 555-678-1234. Dr Partida; Mother Lindqvist",
}
IMAGING = {
    "resourceType": "ImagingStudy",
    "started": "1999-06-14",
    "series": [{"modality": {"code": "CT", "display": "Computed Tomography"}, "bodySite": {"display": "Chest"}}],
}


def test_a_record_is_told_day_by_day_with_ages_in_place_of_dates() -> None:
    pressure = observation(
        "Blood pressure",
        component=[
            {"code": word("Systolic"), "valueQuantity": {"value": 128.6667, "unit": "mm[Hg]"}},
            {"code": word("Diastolic"), "valueQuantity": {"value": 80, "unit": "mm[Hg]"}},
        ],
    )
    drug = {
        "resourceType": "MedicationRequest",
        "authoredOn": "2001-02-03",
        "medicationReference": {"reference": "Medication/m1"},
    }
    medication = {"resourceType": "Medication", "id": "m1", "code": {"text": "Naproxen 220 MG"}}
    record = read(pressure, CONDITION, IMAGING, drug, medication)
    assert record.text == (
        "Woman, race: White.\n\n"
        "At 48 years:\nImaging: Computed Tomography of chest.\n\n"
        "At 50 years:\nDiagnosis: Sinusitis.\nBlood pressure: Systolic 128.7 mmHg; Diastolic 80 mmHg.\n"
        "Medication: Naproxen 220 MG.\n\n"
        "At 50 years:\nResolved: Sinusitis."
    )
    assert (record.patient, record.sex, record.race, record.age) == ("7f1c9d", "F", "White", 50.0)


def test_names_and_numbers_of_the_bundle_are_taken_out_of_what_was_typed() -> None:
    text = read(GLUCOSE, REPORT).text
    assert "At 49 years:\nReport, CT of chest: Glucose: 97.12 mg/dL. Mrs. [removed] has a nodule" in text
    for one in (
        "kowalska",
        "00417",
        "555",
        "partida",
        "lindqvist",
        "plymouth",
        "mill lane",
        "1999",
        "2001",
        "1950",
        "7f1c9d",
    ):
        assert one not in text.lower()
    assert text.count("Glucose") == 1 and "Mother [removed]" in text


def test_a_dose_that_is_also_somebodys_short_number_stays() -> None:
    doctor = DOCTOR | {"id": "d-2", "identifier": [{"value": "220"}]}
    assert (
        "Glucose: 220 mg/dL" in read(observation("Glucose", valueQuantity={"value": 220, "unit": "mg/dL"}), doctor).text
    )


def test_great_ages_are_not_told_and_small_ones_in_months_and_weeks() -> None:
    days = {"1950-07-01": "2 weeks", "1951-06-14": "11 months", "1952-06-15": "2 years", "2040-06-14": "89 years"}
    days["2041-01-01"] = "90 years or more"
    for day, age in days.items():
        record = read(observation("Weight", day, valueInteger=3))
        assert f"At {age}:\nWeight: 3." in record.text
        assert record.age is not None and record.age <= 90
    assert "Died." in read(GLUCOSE, deceasedDateTime="2002").text


def test_what_did_not_happen_is_left_out_and_what_has_no_day_stands_last() -> None:
    wrong = [GLUCOSE | {"status": "entered-in-error"}, GLUCOSE | {"status": "cancelled"}]
    refuted = CONDITION | {"verificationStatus": {"coding": [{"code": "refuted"}]}}
    allergy = {"resourceType": "AllergyIntolerance", "code": word("Allergy to mould")}
    text = read(*wrong, refuted, allergy).text
    assert "Glucose" not in text and "Ruled out: Sinusitis." in text
    assert text.endswith("Without a date:\nAllergy to mould.")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"valueQuantity": {"value": 4.479, "unit": "10*3/uL"}}, ": 4.479 × 10³/µL."),  # noqa: RUF001
        ({"valueQuantity": {"value": 0, "unit": "{score}"}}, ": 0."),
        ({"valueQuantity": {"value": 5, "comparator": "<", "code": "ng/mL"}}, ": <5 ng/mL."),
        (
            {"valueQuantity": {"value": 123456.7, "unit": "U/L"}, "interpretation": [word("High")]},
            ": 123457 U/L (high).",
        ),
        ({"valueCodeableConcept": word("Never smoker")}, ": Never smoker."),
        ({"valueRange": {"low": {"value": 1}, "high": {"value": 2, "unit": "mm"}}}, ": 1 to 2 mm."),
        ({"valueBoolean": False}, ": no."),
    ],
)
def test_values_are_written_with_their_units(value: dict[str, Any], words: str) -> None:
    assert read(observation("Test", **value)).text.endswith(f"Test{words}")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b.update(resourceType="Patient"), "the resource is 'Patient'; expected a Bundle"),
        (lambda b: b.update(entry={}), "'entry' is dict; expected a list of objects"),
        (lambda b: b["entry"].append({}), "'resource' is None; expected an object"),
        (lambda b: b["entry"].append(b["entry"][0]), "the bundle has 2 patients; expected one"),
        (lambda b: b["entry"][0]["resource"].pop("birthDate"), "the patient has no 'birthDate'"),
        (lambda b: b["entry"][0]["resource"].update(birthDate="15/06/1950"), "a date is none that FHIR knows"),
        (lambda b: b["entry"][2]["resource"].update(effectiveDateTime="1949-01-01"), "lies before the year of birth"),
        (lambda b: b["entry"][2]["resource"].update(valueQuantity={"value": "7"}), "'value' of a quantity is '7'"),
        (lambda b: b["entry"][2]["resource"].update(code=7), "'code' is 7; expected an object"),
        (lambda b: b["entry"].pop(), "the bundle tells nothing of the patient's health"),
    ],
)
def test_a_malformed_bundle_is_refused_with_its_reason(change: Any, reason: str) -> None:
    broken = copy.deepcopy(bundle(GLUCOSE))
    change(broken)
    with pytest.raises(RecordError) as caught:
        read_bundle(Entry("bundle 1", broken))
    assert reason in str(caught.value)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


WHOLE = bundle(GLUCOSE, REPORT, CONDITION, IMAGING)
PLACES = [place for place in places(WHOLE) if place]
JUNK = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**400,
        float("nan"),
        float("inf"),
        "",
        "x",
        "2001-13-40",
        "\ud800",
        "9999-12-31",
        [],
        [[]],
        {},
        [{}],
    ]
)


@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=3))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_stands_in_a_bundle_it_is_read_or_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    broken = copy.deepcopy(WHOLE)
    for (*path, last), junk in changes:
        owner: Any = broken
        for step in path:
            if (isinstance(owner, dict) and step in owner) or (
                isinstance(owner, list) and isinstance(step, int) and step < len(owner)
            ):
                owner = owner[step]
        if isinstance(owner, dict) or (isinstance(owner, list) and isinstance(last, int) and last < len(owner)):
            owner[last] = copy.deepcopy(junk)  # the same list put twice could come to stand within itself
    try:
        record = read_bundle(Entry("bundle 1", broken))
    except RecordError as error:
        assert "Kowalska" not in str(error) and "1950" not in str(error)
    else:
        assert json.dumps(record.text).isascii() and record.text.encode()
