"""Every reference passes every check, and each planted fault is found by its own check and by no other."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mmmed.data.writing_case import WritingCase, read_cases
from mmmed.evaluation.writing.checks import CHECKS, check

ROOT = Path(__file__).parents[3] / "data" / "clinical_writing"
CASES = {case.id: case for case in read_cases(ROOT)}

HARD = (
    "Anticoagulation necessitates conscientious surveillance, considering individual pharmacokinetic variability, "
    "nutritional heterogeneity and comprehensive interdisciplinary communication throughout treatment initiation."
)

FAULTS: dict[str, tuple[str, str, Callable[[str], str]]] = {
    "a swapped dose": ("doses", "di_pneumonia", lambda text: text.replace("875 mg", "500 mg")),
    "a missing dose": ("doses", "vn_child_otitis", lambda text: text.replace("Ibuprofen 140 mg", "Ibuprofen")),
    "a flipped side": (
        "sides",
        "pa_knee_mri",
        lambda text: text.replace("MRI of the left knee", "MRI of the right knee"),
    ),
    "an invented allergy": ("allergies", "di_pneumonia", lambda text: text.replace("to sulfa.", "to sulfa and latex.")),
    "a denied allergy": (
        "allergies",
        "vn_low_back",
        lambda text: text.replace("Allergic to codeine.", "No allergies. Codeine was named."),
    ),
    "a missing section": ("sections", "pa_cgrp_migraine", lambda text: text.replace("Medical necessity\n", "")),
    "prose of the twelfth grade": ("reading", "ho_warfarin", lambda text: text + "\n" + " ".join([HARD] * 3)),
    "a finding turned round": (
        "negations",
        "vn_diabetic_foot",
        lambda text: text.replace("no pus.", "no smell. There is pus."),
    ),
    "an invented drug": ("inventions", "di_hip_replacement", lambda text: text + "\nYou take amlodipine."),
    "an invented condition": ("inventions", "vn_thyroid", lambda text: text + "\nShe has epilepsy."),
    "an invented figure": ("figures", "vn_chest_pain", lambda text: text.replace("pulse 78", "pulse 87")),
    "a fact left out": ("elements", "ho_crutches", lambda text: text.replace("Put ice on it", "Put cold on it")),
    "an invented name": ("placeholders", "pa_pet_lung", lambda text: text.replace("[patient name]", "Mary Johnson")),
    "too many words": ("length", "vn_asthma_review", lambda text: text + "\nAsthma." * 250),
    "a wrong key": ("key", "ex_dka", lambda text: text.replace("Answer: C", "Answer: A")),
    "an option nobody would take": (
        "options",
        "ex_hyperkalaemia",
        lambda text: text.replace("Salbutamol by nebuliser", "A glass of milk"),
    ),
}


@pytest.mark.network
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_careful_document_passes_every_check(case: WritingCase) -> None:
    assert {name: said.faults for name, said in check(case.reference, case).items() if said.faults} == {}


@pytest.mark.network
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_its_check_alone(fault: str) -> None:
    name, case, plant = FAULTS[fault]
    written = plant(CASES[case].reference)
    assert written != CASES[case].reference
    assert [found for found, said in check(written, CASES[case]).items() if said.faults] == [name]


@pytest.mark.network
@pytest.mark.parametrize(
    ("said", "caught"),
    [
        ("You are allergic to sulfa, and you take amoxicillin-clavulanate 875 mg twice a day.", []),
        ("You have no cough and you are allergic to sulfa.", []),
        ("You are allergic to sulfa and latex, and you take metoprolol.", ["allergies"]),
        ("You are allergic to sulfa, and you take warfarin.", ["inventions"]),
        ("Call us if you feel hot and you have asthma.", []),
    ],
)
def test_an_allergy_ends_where_the_patient_is_named_again(said: str, caught: list[str]) -> None:
    case = CASES["di_pneumonia"]
    written = case.reference.replace("You are allergic to sulfa.", said)
    assert written != case.reference
    found = check(written, case)
    assert [name for name in ("allergies", "inventions") if found[name].faults] == caught


@pytest.mark.network
def test_every_check_is_planted_and_has_a_case() -> None:
    assert {name for name, _, _ in FAULTS.values()} == set(CHECKS)
    used = {name for case in CASES.values() for name in check(case.reference, case)}
    assert used == set(CHECKS)


def test_there_are_forty_cases_of_many_specialties() -> None:
    assert len(CASES) >= 40
    assert len({case.specialty for case in CASES.values()}) >= 20
    assert {case.kind for case in CASES.values()} == {
        "prior_authorisation",
        "handout",
        "exam_question",
        "discharge",
        "visit_note",
    }


def test_no_case_names_a_person() -> None:
    assert not any(re.search(r"\b(?:Mr|Mrs|Ms|Dr)\b", case.given + case.reference) for case in CASES.values())
