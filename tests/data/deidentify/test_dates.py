"""Dates move by whole days and stay written as they were."""

import pytest

from mmmed.data.deidentify.dates import find_dates, shift


@pytest.mark.parametrize(
    ("written", "days", "moved"),
    [
        ("2024-02-28", 2, "2024-03-01"),
        ("2005-07-21 18:19:22", 1, "2005-07-22 18:19:22"),
        ("02/28/2023", 1, "03/01/2023"),
        ("8/5/1989", 7, "8/12/1989"),
        ("25-Mar-23", 7, "01-Apr-23"),
        ("04-May-22", -7, "27-Apr-22"),
        ("March 30th, 2024", 2, "April 1st, 2024"),
        ("May 21st, 2021", 1, "May 22nd, 2021"),
        ("DECEMBER 31, 1999", 1, "JANUARY 1, 2000"),
        ("22 de febrero de 2012", 7, "29 de febrero de 2012"),
        ("30/12/2016", 7, "06/01/2017"),
        ("13.12.2015", 1, "14.12.2015"),
        ("Jan 2020", 31, "Feb 2020"),
        ("abril 2002", 30, "mayo 2002"),
        ("03/2021", 31, "04/2021"),
        ("March", 30, "April"),
        ("sep-04", 30, "oct-04"),
        ("diciembre-08", 30, "enero-09"),
    ],
)
def test_a_date_is_moved_and_keeps_its_form(written: str, days: int, moved: str) -> None:
    assert shift(written, days) == moved


def test_spanish_notes_write_the_day_first() -> None:
    assert shift("03/04/2016", 28, day_first=True) == "01/05/2016"
    assert shift("03/04/2016", 28) == "04/01/2016"


def test_intervals_are_kept() -> None:
    assert (shift("2024-01-01", 70), shift("2024-03-01", 70)) == ("2024-03-11", "2024-05-10")


@pytest.mark.parametrize("written", ["14/14/2014", "yesterday", "2023-02-30", "99/99/99"])
def test_what_is_no_date_is_not_moved(written: str) -> None:
    assert shift(written, 7) is None


@pytest.mark.parametrize("text", ["in 1997", "on Monday", "132/80", "5/5 strength", "10x10 cm", "may be"])
def test_years_days_of_the_week_and_fractions_are_no_dates(text: str) -> None:
    assert list(find_dates(text)) == []
