"""Surrogates are stable, of the same form, and different for every patient and key."""

from mmmed.data.deidentify.entities import KINDS
from mmmed.data.deidentify.surrogates import Surrogates

KEY = b"a key of sixteen bytes or more"


def test_the_same_key_patient_and_original_give_the_same_surrogate() -> None:
    one, again = Surrogates(KEY, patient="1"), Surrogates(KEY, patient="1")
    for kind in KINDS:
        assert one.replace(kind, "Ab-12345678") == again.replace(kind, "Ab-12345678")


def test_another_patient_or_key_gets_others() -> None:
    names = {
        Surrogates(key, patient=patient).replace("name", "Paula Santiago")
        for key in (KEY, KEY * 2)
        for patient in "123"
    }
    assert len(names) == 6


def test_parts_of_a_name_agree_with_the_whole() -> None:
    surrogates = Surrogates(KEY, patient="1")
    first, last = surrogates.replace("name", "Paula Santiago").split()
    assert surrogates.replace("name", "SANTIAGO, PAULA") == f"{last.upper()}, {first.upper()}"
    assert surrogates.replace("name", "Paula's") == f"{first}'s"


def test_numbers_keep_their_form_and_no_digit() -> None:
    surrogates = Surrogates(KEY, patient="1")
    made = surrogates.replace("record_number", "MR-805457")
    assert made[2] == "-"
    assert made[:2].isupper()
    assert all(new != old for new, old in zip(made, "MR-805457", strict=True) if old != "-")


def test_contacts_reach_nobody() -> None:
    surrogates = Surrogates(KEY, patient="1")
    assert surrogates.replace("phone", "(732) 193-2337").startswith("(555) ")
    assert surrogates.replace("email", "x@real.com").endswith("@example.org")
    assert surrogates.replace("ssn", "151-72-4326").startswith("000-")
    assert surrogates.replace("ip_address", "36.106.174.11").startswith("192.0.2.")


def test_all_dates_of_a_patient_move_alike_by_whole_weeks() -> None:
    shifts = {Surrogates(KEY, patient=str(number)).days for number in range(200)}
    assert 0 not in shifts
    assert all(days % 7 == 0 and abs(days) <= 364 for days in shifts)
    assert len(shifts) > 50
    surrogates = Surrogates(KEY, patient="1")
    assert surrogates.replace("date", "14/14/2014") == "[date]"


def test_ages_over_89_become_one_group() -> None:
    assert {Surrogates(KEY, patient="1").replace("age", age) for age in ("90", "97", "104")} == {"90"}
