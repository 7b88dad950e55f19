"""What in a FHIR bundle says who a person is, to be taken out of texts that quote it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmmed.data.entries import Entry
from mmmed.data.fhir_values import entries

REMOVED = "[removed]"

_WHO = ("Patient", "Practitioner", "Organization", "RelatedPerson", "Location")
_WHERE = ("name", "telecom", "address", "identifier", "id")
# Use, system and country say nothing of a person, and their words stand in every record.
_HARMLESS = frozenset({"use", "system", "type", "country", "period", "prefix", "state", "rank"})
_FEWEST_LETTERS = 3
# Shorter numbers are doses and counts far more often than anybody's.
_FEWEST_DIGITS = 5
_WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True, slots=True)
class Identifying:
    """Names, addresses, numbers and telephones of a bundle, as one expression that finds them."""

    pattern: re.Pattern[str] | None

    @classmethod
    def of(cls, resources: Iterable[Entry]) -> "Identifying":
        """Gather them from the patient and from everyone and everywhere else that is named."""
        words: set[str] = set()
        for resource in resources:
            kind = resource.maybe("resourceType")
            if kind in _WHO:
                # A contact, such as a mother, has a name and an address of its own.
                for person in (resource, *entries(resource, "contact")):
                    for where in _WHERE:
                        apart = where == "name" and kind != "Organization"
                        words.update(_words(person.values.get(where), apart=apart))
        longest_first = sorted((re.escape(word) for word in words), key=len, reverse=True)
        if not longest_first:
            return cls(None)
        return cls(re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", re.IGNORECASE))

    def taken_out(self, text: str) -> str:
        """The text with a mark in place of each."""
        return self.pattern.sub(REMOVED, text) if self.pattern else text


def _words(value: object, *, apart: bool) -> Iterator[str]:
    """Every text in a value; of names each word for itself, since texts call people by one of them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _HARMLESS:
                yield from _words(inner, apart=apart)
    elif isinstance(value, list):
        for inner in value:
            yield from _words(inner, apart=apart)
    elif isinstance(value, str) and len(value.strip()) >= (_FEWEST_DIGITS if value.isdecimal() else _FEWEST_LETTERS):
        yield value.strip()
        if apart:
            yield from _WORD.findall(value)
