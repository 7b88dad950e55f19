"""Codes and measured values of FHIR resources in words.

Source: HL7 FHIR R4 (4.0.1), data types CodeableConcept, Coding and Quantity; UCUM for units.
"""

import re
from collections.abc import Mapping

from mmmed.data.entries import Entry, as_text, shortened
from mmmed.errors import RecordError

_UNITS = {
    "mm[Hg]": "mmHg",
    "Cel": "°C",
    "[degF]": "°F",
    "10*3/uL": "\N{MULTIPLICATION SIGN} 10³/µL",
    "10*6/uL": "\N{MULTIPLICATION SIGN} 10⁶/µL",
    "(score)": "",
}
_SEMANTIC_TAG = re.compile(r" \((?:disorder|finding|procedure|situation|regime/therapy|morphologic abnormality)\)$")
_HIGHEST = 1e15
_INVISIBLE = str.maketrans("", "", "\u200b\u200c\u200d\ufeff")


def entries(owner: Entry, name: str) -> list[Entry]:
    """The objects of a list that may be absent. Raises `RecordError` where it is something else."""
    values = owner.values.get(name, [])
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise RecordError(f"{name!r} is {shortened(values)}; expected a list of objects")
    return [Entry(owner.place, value) for value in values]


def coded(owner: Entry, name: str) -> str:
    """What a code says: its text, else what its first coding with words is called, else that coding's code.

    A Coding is read like a CodeableConcept of one coding, and of a list the first is read. Nothing where it is absent.

    Raises:
        RecordError: It is something else.
    """
    value = owner.values.get(name)
    if value is None:
        return ""
    concept = entries(owner, name)[0] if isinstance(value, list) and value else owner.inner(name)
    codings = entries(concept, "coding") if "coding" in concept.values else [concept]
    said = [concept.maybe("text"), *(one.maybe("display") for one in codings), *(one.maybe("code") for one in codings)]
    words = " ".join(next(filter(None, said), "").translate(_INVISIBLE).split())
    return _SEMANTIC_TAG.sub("", words)


def measured(observation: Entry) -> str:
    """What was measured and what came out, such as `Body Weight 70.1 kg`; nothing where no value is known.

    A day or time as a value is left out.

    Raises:
        RecordError: A value is none of its kind.
    """
    name = coded(observation, "code") or "not named"
    parts = [f"{coded(one, 'code')} {_value(one)}" for one in entries(observation, "component") if _value(one)]
    value = "; ".join(filter(None, [_value(observation), *parts]))
    high_or_low = coded(observation, "interpretation").lower()
    return value and f"{name}: {value}{f' ({high_or_low})' if len(high_or_low) > 2 else ''}"


def _value(owner: Entry) -> str:
    values: Mapping[str, object] = owner.values
    if "valueQuantity" in values:
        return _quantity(owner.inner("valueQuantity"))
    if "valueCodeableConcept" in values:
        return coded(owner, "valueCodeableConcept")
    if "valueRange" in values:
        ends = [_quantity(owner.inner("valueRange").inner(end)) for end in ("low", "high")]
        return " to ".join(ends)
    if isinstance(values.get("valueBoolean"), bool):
        return "yes" if values["valueBoolean"] else "no"
    return as_text(values.get("valueString") or values.get("valueInteger", ""), name="value")


def _quantity(quantity: Entry) -> str:
    value = quantity.values.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _HIGHEST:
        raise RecordError(f"'value' of a quantity is {shortened(value)}; expected a number")
    unit = quantity.maybe("unit") or quantity.maybe("code")
    words = _UNITS.get(unit, unit.replace("{1.73_m2}", "1.73 m²"))
    return " ".join(filter(None, [f"{quantity.maybe('comparator')}{_short(value)}", re.sub(r"\{.*?\}", "", words)]))


def _short(value: float) -> str:
    """Four digits that count, as a laboratory would print them; whole numbers whole."""
    return str(round(value)) if abs(value) >= 1000 else f"{value:.4g}"
