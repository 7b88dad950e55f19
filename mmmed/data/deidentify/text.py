"""Texts of one patient, made safe together: what is found in one is replaced in all."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from mmmed.data.deidentify.entities import Finding, Kind, without_overlap
from mmmed.data.deidentify.names import repeated
from mmmed.data.deidentify.privacy import Mode
from mmmed.data.deidentify.recognisers import analyse
from mmmed.data.deidentify.surrogates import Surrogates, reads_day_first
from mmmed.errors import PrivacyError

# Shorter ones are years, doses and room numbers everywhere else.
_SHORTEST_VALUE = 5
_VALUES: tuple[Kind, ...] = (
    "record_number",
    "accession",
    "health_plan",
    "account",
    "licence",
    "identifier",
    "ssn",
    "device",
)


class Cleaned(NamedTuple):
    """A text without identifiers, and what stood where in the original."""

    text: str
    findings: list[Finding]


def find(text: str, *, mode: Mode = "rules", known: Sequence[str] = ()) -> list[Finding]:
    """Find the identifiers of one text, in order and without overlap.

    Args:
        text: A report, a question, a note.
        mode: With rules alone, or with the language model too.
        known: Identifiers that are known from elsewhere, such as the number in the record of the patient.

    Raises:
        PrivacyError: A recogniser failed.
    """
    return find_together([text], mode=mode, known=known)[0]


def find_together(texts: Sequence[str], *, mode: Mode = "rules", known: Sequence[str] = ()) -> list[list[Finding]]:
    """Find the identifiers of several texts about one patient; a name in one is looked for in all.

    Raises:
        PrivacyError: A recogniser failed.
    """
    try:
        return _find_together(texts, mode=mode, known=known)
    except (PrivacyError, MemoryError):
        raise
    except Exception as error:
        # Whatever it was, the text is not known to be safe. The error's own words may quote it, so they are not shown.
        raise PrivacyError(
            f"a recogniser of identifiers failed ({type(error).__name__}), so that nothing is known to be safe; "
            "the run stops"
        ) from None


def clean(
    texts: Sequence[str], surrogates: Surrogates, *, mode: Mode = "rules", known: Sequence[str] = ()
) -> list[Cleaned]:
    """Put surrogates in the place of identifiers in several texts about one patient.

    Raises:
        PrivacyError: A recogniser failed.
    """
    found = find_together(texts, mode=mode, known=known)
    return [Cleaned(_replaced(text, some, surrogates), some) for text, some in zip(texts, found, strict=True)]


def _find_together(texts: Sequence[str], *, mode: Mode, known: Sequence[str]) -> list[list[Finding]]:
    found = [without_overlap(analyse(text, mode)) for text in texts]
    names = {
        text[one.start : one.end] for text, some in zip(texts, found, strict=True) for one in some if one.kind == "name"
    }
    listed = "\n".join(sorted(names))
    whole = [Finding(0, len(listed), "name", "")] if listed else []
    values = _values(texts, found, known)
    complete = []
    for text, some in zip(texts, found, strict=True):
        more = [*some, *repeated(text, whole, listed=listed)] if whole else list(some)
        more.extend(_values_in(text, values))
        complete.append([one for one in without_overlap(more) if text[one.start : one.end].strip()])
    return complete


def _values(texts: Sequence[str], found: Sequence[Sequence[Finding]], known: Sequence[str]) -> dict[str, Kind]:
    values: dict[str, Kind] = dict.fromkeys(known, "identifier")
    if len(texts) > 1:
        for text, some in zip(texts, found, strict=True):
            values |= {text[one.start : one.end].lstrip("#"): one.kind for one in some if one.kind in _VALUES}
    return {
        value: kind
        for value, kind in values.items()
        if len(value) >= _SHORTEST_VALUE and any(character.isdigit() for character in value)
    }


def _values_in(text: str, values: dict[str, Kind]) -> list[Finding]:
    return [
        Finding(match.start(), match.end(), kind, "known value")
        for value, kind in values.items()
        for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text)
    ]


def _replaced(text: str, findings: Sequence[Finding], surrogates: Surrogates) -> str:
    day_first = reads_day_first(text)
    parts: list[str] = []
    place = 0
    for one in findings:
        parts += [text[place : one.start], surrogates.replace(one.kind, text[one.start : one.end], day_first=day_first)]
        place = one.end
    return "".join([*parts, text[place:]])
