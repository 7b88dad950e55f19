"""Dates: finding them, and moving them by a number of days without changing how they are written."""

import datetime
import re
from collections.abc import Iterator

from mmmed.data.deidentify.entities import Finding
from mmmed.data.deidentify.rules import Window, around, found_in, joined, places_of, words, words_at

MONTHS = {
    "en": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    "es": [
        "enero",
        "febrero",
        "marzo",
        "abril",
        "mayo",
        "junio",
        "julio",
        "agosto",
        "septiembre",
        "octubre",
        "noviembre",
        "diciembre",
    ],
}
_NUMBERS = {
    word: number
    for names in MONTHS.values()
    for number, name in enumerate(names, start=1)
    for word in (name.lower(), name[:3].lower(), name[:4].lower())
} | {"setiembre": 9}
# Words that mean more than a month, unless a day or a year stands beside them.
_AMBIGUOUS = ("may", "mar", "march", "sep", "set", "dec", "jun", "ago", "ene")
_LONG_NAMES = sorted({name.lower() for names in MONTHS.values() for name in names}, key=len, reverse=True)
_SHORT_NAMES = "setiembre sept jan feb mar apr jun jul aug sep oct nov dec ene abr ago dic"
_MONTH_NAMES = [*_LONG_NAMES, *sorted(words(_SHORT_NAMES))]
_LONG, _MONTH = (rf"(?:{'|'.join(names)})" for names in (_LONG_NAMES, _MONTH_NAMES))
_TIME = r"(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?[ap]\.?m\.?)?(?:Z|[+-]\d{2}:?\d{2})?)?"
_YEAR = r"(?:19|20)\d{2}"

# Each has named groups year, month, day, of which year or day may be absent.
_FORMS = {
    "date, year first": r"(?P<year>[12](?<![\d./-].)(?:(?<=1)9|(?<=2)0)\d{2})(?P<gap>[-/.])(?P<month>\d{1,2})"
    r"(?P=gap)(?P<day>\d{1,2})"
    rf"(?![\d-]){_TIME}",
    "date, numeric": rf"(?P<month>\d(?<![\d./-]\d)\d?)(?P<gap>\s?[-/.]\s?)(?P<day>\d{{1,2}})(?P=gap)(?P<year>{_YEAR}"
    rf"|\d{{2}})(?![\d%]|[/-]\d|\.\d){_TIME}",
    "date, month between": rf"(?P<day>\d(?<![\w/-]\d)\d?)[-/. ](?P<month>{_MONTH})[-/. ]"
    rf"(?P<year>{_YEAR}|\d{{2}}(?=\W|$))(?!\d)",
    "date, day first": rf"(?P<day>\d(?<![\w/-]\d)\d?)(?:st|nd|rd|th|º)?(?:\s+(?:of|de))?\s+(?P<month>{_MONTH})\b\.?"
    rf"(?:,?\s*(?:de[l]?\s+|of\s+)?(?P<year>{_YEAR}))?",
    "date, month first": rf"\b(?P<month>{_MONTH})\b\.?\s*(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b"
    rf"(?!\s?(?:mg|ml|%|cm|mm|:|/))(?:(?:\s*,\s*|\s+(?:of\s+)?)(?:(?P<year>{_YEAR})|'\d{{2}}\b))?",
    "date, month and year": rf"\b(?P<month>{_MONTH})\b\.?,?\s*(?:de[l]?\s+(?:año\s+)?|of\s+|[-/]\s*)?"
    rf"(?P<year>{_YEAR})\b",
    "date, month and short year": rf"\b(?P<month>{_MONTH})[-/'\u2019](?P<year>\d{{2}})\b(?![-/.]\d)",
    "date, numeric month and year": r"(?P<month>\d(?<![\d./-]\d)(?:(?<=0)[1-9]|(?<=1)[0-2]|(?<=[1-9])))"
    rf"(?P<gap>[-/])(?P<year>{_YEAR})(?![\d/-])",
    "date, without year": r"\b(?:on|dated?|since|until|by|from|el|d[ií]a|desde|hasta|fecha)\s+(?P<month>\d{1,2})"
    r"(?P<gap>/)(?P<day>\d{1,2})(?![\d/%.])",
    "date, compact": rf"\b(?:dob|date|born|birth)\b\W{{0,4}}(?P<year>{_YEAR})(?P<month>0[1-9]|1[0-2])"
    r"(?P<day>[0-3]\d)(?!\d)",
    "month": rf"\b(?:in|since|until|till|last|this|next|past|early|late|mid|by|during|through|from|between|and|en"
    rf"|desde|hasta)[ -](?:(?:early|late|mid|the|of)[ -])*(?P<month>{_LONG})\b(?!\s+\d)",
    "month, Spanish": rf"\b(?:de|a|en|desde|hasta|mes)[ ](?:(?:principios|mediados|finales|mes)?[ ]?(?:de )?)?"
    rf"(?P<month>{'|'.join(MONTHS['es'])})\b",
}
_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _FORMS.items()}
# Where the words before the date belong to the pattern, the date begins with its month.
_LED = ("date, without year", "month", "month, Spanish")
_DATED = ("date, compact",)
_WORDED = (
    "date, month between",
    "date, day first",
    "date, month first",
    "date, month and year",
    "date, month and short year",
    "month",
    "month, Spanish",
)
_BEGINNINGS = {
    "date, month first": frozenset(_MONTH_NAMES),
    "date, month and year": frozenset(_MONTH_NAMES),
    "date, month and short year": frozenset(_MONTH_NAMES),
    "date, without year": words("on date dated since until by from el dia día desde hasta fecha"),
    "date, compact": words("dob date born birth"),
    "month": words(
        "in since until till last this next past early late mid by during through from between and en desde hasta"
    ),
    "month, Spanish": words("de a en desde hasta mes"),
}
"""What those begin with that begin with a word."""

_DIGITS = re.compile(r"\d\D{0,3}\d\D{0,3}\d")
# Whatever stands in a field for a date, also what is none, such as 14/14/2014.
_FORM = re.compile(
    r"(?:[Ff]echa|[Dd]ate|DOB|D\.O\.B\.|[Bb]orn|[Bb]irth)[^:\n\d]{0,20}[:=][ \t]*(?P<phi>\d[\d/.-]{4,11})"
)

_VALUE = re.compile(r"[:=][ \t]*\d")


def find_dates(text: str) -> Iterator[Finding]:
    """Yield whole dates, months with a year and, after words such as "since", months; a year alone may stay."""
    digits = around(_DIGITS, text, before=24, after=32)
    months = _month_windows(text)
    for name, pattern in _PATTERNS.items():
        windows = months if name in _WORDED else digits
        places = places_of(_BEGINNINGS[name], text) if windows and name in _BEGINNINGS else None
        for window in windows:
            for match in found_in(window, pattern, text, places):
                if not _plausible(match):
                    continue
                if name == "month" and match["month"].lower() in _AMBIGUOUS and not match["month"][0].isupper():
                    continue
                start = min(match.start("month"), match.start("year")) if name in _DATED else match.start()
                start = match.start("month") if name in _LED else start
                yield Finding(start, match.end(), "date", name)
    for window in around(_VALUE, text, before=32, after=20):
        for match in _FORM.finditer(text, *window):
            yield Finding(*match.span("phi"), "date", "date, labelled")


def _month_windows(text: str) -> list[Window]:
    """Stretches about every word that may be a month."""
    known = words_at(text)
    spans = sorted((place, place + len(name)) for name in _MONTH_NAMES for place in known.get(name, ()))
    return joined(spans, len(text), before=28, after=24)


def shift(written: str, days: int, *, day_first: bool = False) -> str | None:
    """Move a date by some days and write it in the same way; None where it cannot be read.

    A month without a day moves as its fifteenth does; one without a year as in an ordinary year.

    Args:
        written: A date as `find_dates` found it.
        days: How far.
        day_first: Read 3/4/2020 as the third of April, as Spanish notes do.
    """
    for name, pattern in _PATTERNS.items():
        lead = {"date, without year": "on ", "month": "in ", "month, Spanish": "en ", "date, compact": "date "}.get(
            name, ""
        )
        match = pattern.fullmatch(lead + written)
        if match is None or not _plausible(match):
            continue
        groups = match.groupdict()
        month, day, year = groups["month"], groups.get("day"), groups.get("year")
        swapped = bool(day) and month.isdigit() and (int(month) > 12 or (day_first and not year_first(groups, match)))
        if swapped and day:
            if int(day) > 12:
                swapped = False
            else:
                month, day = day, month
        moved = _moved(month, day, year, days)
        if moved is None:
            return None
        # "May" is whole and short at once; between day and year it is short.
        short = name == "date, month between"
        padded = name not in ("date, day first", "date, month first")
        parts = {"month": _as_month(month, moved, short=short), "year": _as_year(year, moved)}
        parts["day"] = _as_number(day, moved.day, padded=padded) if day else ""
        if swapped:
            parts["month"], parts["day"] = parts["day"], parts["month"]
        return _put(match, parts)[len(lead) :]
    return None


def year_first(groups: dict[str, str | None], match: re.Match[str]) -> bool:
    """Say whether a date begins with its year, so that its month stands second in every country."""
    return bool(groups.get("year")) and match.start("year") < match.start("month")


def _plausible(match: re.Match[str]) -> bool:
    groups = match.groupdict()
    day = int(groups["day"]) if groups.get("day") else 1
    month = int(groups["month"]) if groups["month"].isdigit() else 1
    if not (1 <= day <= 31 and 1 <= month <= 31 and min(day, month) <= 12):
        return False
    return not (groups["month"].isdigit() and month > 12 and not groups.get("day"))


def _moved(month: str, day: str | None, year: str | None, days: int) -> datetime.date | None:
    number = int(month) if month.isdigit() else _NUMBERS.get(month.lower(), _NUMBERS.get(month[:3].lower(), 0))
    try:
        date = datetime.date(_full_year(year), number, int(day) if day else 15)
        return date + datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return None


def _full_year(year: str | None) -> int:
    if not year:
        return 2001
    number = int(year)
    # Two digits above those of the next decade belong to the last century, as in dates of birth.
    return number if number > 99 else number + (2000 if number < 40 else 1900)


def _as_year(year: str | None, moved: datetime.date) -> str:
    if not year:
        return ""
    return str(moved.year) if len(year) == 4 else f"{moved.year % 100:02d}"


def _as_number(old: str, new: int, *, padded: bool = True) -> str:
    return f"{new:02d}" if old[0] == "0" or (padded and len(old) == 2) else str(new)


def _as_month(old: str, moved: datetime.date, *, short: bool) -> str:
    if old.isdigit():
        return _as_number(old, moved.month)
    spanish = any(name.startswith(old.lower()) for name in [*MONTHS["es"], "setiembre"])
    english = any(name.lower().startswith(old.lower()) for name in MONTHS["en"])
    name = MONTHS["es" if spanish and not english else "en"][moved.month - 1]
    whole = old.lower() in {name.lower() for names in MONTHS.values() for name in names} | {"setiembre"}
    word = name if whole and not (short and len(old) == 3) else name[:3]
    if old.isupper():
        return word.upper()
    return word.capitalize() if old[0].isupper() else word.lower()


def _put(match: re.Match[str], parts: dict[str, str]) -> str:
    text, written = match.string, ""
    place = 0
    spans = sorted((match.start(name), match.end(name), name) for name in parts if name in match.groupdict())
    for start, end, name in spans:
        if start < 0:
            continue
        written += text[place:start] + parts[name]
        place = end
        if name == "day" and re.match(r"(?:st|nd|rd|th)", text[end:], re.IGNORECASE):
            written += _ordinal(int(parts["day"]))
            place += 2
    return written + text[place:]


def _ordinal(day: int) -> str:
    return "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
