"""Doses and other numbers in running text, in one form whatever way they are written."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# Of units that begin alike the longer comes first: a concentration is no dose.
_NO_DOSE = r"m?mol/L|mg/dL|mg/L|g/dL|g/L|ng/mL|pg/mL|mcg/L|U/L|IU/L|mEq/L|mmHg|mm Hg|kg/m2|kg|cm|mm|%"
_DOSE = (
    r"milligrams?|micrograms?|grams?|millilitres?|milliliters?|international units?|units?|mg|mcg|µg|g|mL|IU|"
    r"puffs?|tablets?|capsules?|drops?|sprays?|patch(?:es)?"
)
_QUANTITY = re.compile(
    rf"(?<![\w.])(?P<number>\d+(?:,\d{{3}})*(?:\.\d+)?)(?:\s*|-)(?:(?P<other>{_NO_DOSE})|(?P<dose>{_DOSE}))(?![\w/])",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?![\d.]*\d)")
_LIST = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)
_SAME = {
    "milligram": "mg",
    "microgram": "mcg",
    "µg": "mcg",
    "gram": "g",
    "millilitre": "mL",
    "milliliter": "mL",
    "ml": "mL",
    "international unit": "unit",
    "iu": "unit",
    "patche": "patch",
}


class Quantity(NamedTuple):
    """A number with the unit of a dose, such as ``40 mg``."""

    number: float
    unit: str
    start: int
    end: int

    @property
    def said(self) -> str:
        """In the one form."""
        return f"{self.number:g} {self.unit}"


def doses(text: str) -> list[Quantity]:
    """Every number with the unit of a dose, grams as milligrams; concentrations and measures are none."""
    found = []
    for match in _QUANTITY.finditer(text):
        if match["dose"]:
            number = float(match["number"].replace(",", ""))
            unit = _unit(match["dose"])
            if unit == "g":
                number, unit = 1000 * number, "mg"
            found.append(Quantity(number, unit, *match.span()))
    return found


def numbers(text: str) -> Iterator[tuple[float, str]]:
    """Every number that is no dose and no number of a list, with its own words around it."""
    taken = [(one.start, one.end) for one in doses(text)] + [match.span() for match in _LIST.finditer(text)]
    for match in _NUMBER.finditer(text):
        if not any(start <= match.start() < end for start, end in taken):
            around = " ".join(text[max(0, match.start() - 20) : match.end() + 20].split())
            yield float(match[0].replace(",", "")), around


class WrongDose(NamedTuple):
    """A dose of a drug that the case does not give it."""

    drug: str
    said: str


def wrong_doses(sentence: str, given: Mapping[str, Sequence[str]]) -> list[WrongDose]:
    """Doses that the drug they belong to does not have: the one named last before, or else the first after."""
    places = sorted(
        (match.start(), drug)
        for drug in given
        for match in re.finditer(rf"(?<!\w){re.escape(drug)}(?!\w)", sentence, re.IGNORECASE)
    )
    wrong = []
    for one in doses(sentence):
        before = [drug for place, drug in places if place < one.start]
        drug = before[-1] if before else places[0][1] if places else None
        if drug is not None and one.said not in _normal(given[drug]):
            wrong.append(WrongDose(drug, one.said))
    return wrong


def said_doses(sentences: Sequence[str], drug: str, given: Sequence[str]) -> set[str]:
    """Which of the given doses of a drug some sentence about it says."""
    named = [one for one in sentences if re.search(rf"(?<!\w){re.escape(drug)}(?!\w)", one, re.IGNORECASE)]
    return _normal(given) & {one.said for sentence in named for one in doses(sentence)}


def _normal(given: Sequence[str]) -> set[str]:
    return {one.said for each in given for one in doses(each)}


def _unit(word: str) -> str:
    small = word.lower()
    single = small if small in _SAME or len(small) <= 3 else small.rstrip("s")
    return _SAME.get(single, single)
