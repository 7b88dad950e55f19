"""A patient's health record in plain words, from a FHIR bundle, without what says who the patient is.

Only coded facts, values and conclusions are read: never names, addresses, telephone numbers, identifiers, notes or
generated narratives. Days become ages. Names and numbers of the bundle that stand in a text are taken out of it.

Source: HL7 FHIR R4 (4.0.1), resources Bundle, Patient and those of `_WRITERS`; US Core for race.
"""

import datetime
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from mmmed.data.entries import Entry
from mmmed.data.fhir_values import coded, entries, measured
from mmmed.data.identifying import Identifying
from mmmed.errors import RecordError

OLDEST_TOLD = 90
"""From this age on, in years, only that it was reached is told (45 CFR 164.514(b)(2)(i)(C))."""

_RACE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
_SEXES = {"male": "M", "female": "F"}
_PERSONS = {"M": "Man", "F": "Woman"}
_CERTAINTY = {"provisional": "Suspected", "differential": "Suspected", "refuted": "Ruled out"}
_NOT_DONE = frozenset({"entered-in-error", "cancelled", "not-done", "nullified"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRecord:
    """One patient's record.

    Args:
        patient: Identifier of the patient within the export; not part of the text.
        text: The record in words, a paragraph for each day, in their order.
        sex: "F", "M", or nothing where the bundle says neither.
        race: As the bundle says it, or nothing.
        age: At the last event, in years, at most `OLDEST_TOLD`; none where nothing has a day.
    """

    patient: str
    text: str
    sex: str
    race: str
    age: float | None


def read_bundle(bundle: Entry) -> HealthRecord:
    """Put a patient's bundle into words.

    Raises:
        RecordError: It is no bundle of one patient, the day of birth is missing, or something in it is no FHIR.
    """
    if bundle.maybe("resourceType") != "Bundle":
        raise RecordError(f"the resource is {bundle.maybe('resourceType') or 'of no type'!r}; expected a Bundle")
    resources = _Resources.of(bundle)
    patients = resources.of_type("Patient")
    if len(patients) != 1:
        raise RecordError(f"the bundle has {len(patients)} patients; expected one")
    (patient,) = patients
    born = _day(patient.maybe("birthDate"))
    if born is None:
        raise RecordError("the patient has no 'birthDate', without which no age can be told")
    sex, race = _SEXES.get(patient.maybe("gender"), ""), _race(patient)
    events = sorted(_events(resources, patient, born), key=lambda event: (event.day is None, event.day or born))
    if not events:
        raise RecordError("the bundle tells nothing of the patient's health")
    last = max((event.day for event in events if event.day), default=None)
    hidden = Identifying.of(resources.all)
    return HealthRecord(
        patient=patient.text("id"),
        text="\n\n".join([_person(sex, race), *(hidden.taken_out(one) for one in _paragraphs(events, born))]),
        sex=sex,
        race=race,
        age=None if last is None else float(min(_months(born, last) // 12, OLDEST_TOLD)),
    )


@dataclass(frozen=True, slots=True)
class _Event:
    """What happened on a day; none where the bundle does not say when."""

    day: datetime.date | None
    words: str


@dataclass(frozen=True, slots=True)
class _Resources:
    """The resources of a bundle, to be found by what others call them."""

    all: Sequence[Entry]
    by_reference: Mapping[str, Entry]

    @classmethod
    def of(cls, bundle: Entry) -> "_Resources":
        found: list[Entry] = []
        named: dict[str, Entry] = {}
        for entry in entries(bundle, "entry"):
            resource = entry.inner("resource")
            found.append(resource)
            names = (entry.maybe("fullUrl"), f"{resource.text('resourceType')}/{resource.maybe('id')}")
            named.update((name, resource) for name in names if name)
        return cls(found, named)

    def of_type(self, kind: str) -> list[Entry]:
        return [one for one in self.all if one.maybe("resourceType") == kind]

    def referred(self, owner: Entry, name: str) -> Entry | None:
        """The resource a reference leads to; none where it is outside the bundle."""
        return self.by_reference.get(owner.inner(name).maybe("reference")) if name in owner.values else None


def _events(resources: _Resources, patient: Entry, born: datetime.date) -> Iterator[_Event]:
    # A report lists its results, which would else be told twice.
    reported = {
        id(resources.by_reference.get(result.maybe("reference")))
        for report in _valid(resources, "DiagnosticReport")
        for result in entries(report, "result")
    }
    for kind, (days, write) in _WRITERS.items():
        for resource in _valid(resources, kind):
            if id(resource) not in reported and (words := write(resource, resources)):
                yield _Event(_first_day(resource, days, born), words)
            if kind == "Condition" and (day := _first_day(resource, ("abatementDateTime",), born)):
                yield _Event(day, f"Resolved: {coded(resource, 'code')}.")
    if died := _first_day(patient, ("deceasedDateTime",), born):
        yield _Event(died, "Died.")


def _valid(resources: _Resources, kind: str) -> list[Entry]:
    """Those that happened: not the cancelled ones, nor those that were entered in error."""
    return [
        one
        for one in resources.of_type(kind)
        if one.maybe("status") not in _NOT_DONE and coded(one, "verificationStatus") not in _NOT_DONE
    ]


def _paragraphs(events: Sequence[_Event], born: datetime.date) -> Iterator[str]:
    for day, same in groupby(events, key=lambda event: event.day):
        head = "Without a date:" if day is None else f"At {_age(born, day)}:"
        yield "\n".join([head, *dict.fromkeys(event.words for event in same)])


def _person(sex: str, race: str) -> str:
    return ", ".join(filter(None, [_PERSONS.get(sex, "Person"), race and f"race: {race}"])) + "."


def _race(patient: Entry) -> str:
    for extension in entries(patient, "extension"):
        if extension.maybe("url") == _RACE:
            parts = {part.maybe("url"): part for part in entries(extension, "extension")}
            if "ombCategory" in parts:
                return parts["ombCategory"].inner("valueCoding").maybe("display")
            return parts["text"].maybe("valueString") if "text" in parts else ""
    return ""


def _visit(resource: Entry, _: _Resources) -> str:
    kinds = [coded(resource, "type")] if "type" in resource.values else []
    reason = coded(resource, "reasonCode")
    return f"Visit: {', '.join(filter(None, [*kinds, reason and f'for {reason}']))}." if any([*kinds, reason]) else ""


def _condition(resource: Entry, _: _Resources) -> str:
    certainty = _CERTAINTY.get(coded(resource, "verificationStatus"), "Diagnosis")
    return f"{certainty}: {coded(resource, 'code') or 'not named'}."


def _observation(resource: Entry, _: _Resources) -> str:
    return measured(resource) and f"{measured(resource)}."


def _report(resource: Entry, resources: _Resources) -> str:
    found = [resources.by_reference.get(reference.maybe("reference")) for reference in entries(resource, "result")]
    results = [measured(one) for one in found if one is not None and one.maybe("status") not in _NOT_DONE]
    said = [
        *filter(
            None, ["; ".join(filter(None, results)), resource.maybe("conclusion"), coded(resource, "conclusionCode")]
        )
    ]
    return f"Report, {coded(resource, 'code') or 'not named'}: {'. '.join(said) or 'no result'}."


def _imaging(resource: Entry, _: _Resources) -> str:
    series = [
        " of ".join(filter(None, [coded(one, "modality"), coded(one, "bodySite").lower()]))
        for one in entries(resource, "series")
    ]
    what = "; ".join(dict.fromkeys(filter(None, [coded(resource, "procedureCode"), *series])))
    return f"Imaging: {what or 'not described'}."


def _medication(resource: Entry, resources: _Resources) -> str:
    name = coded(resource, "medicationCodeableConcept")
    if not name and (medication := resources.referred(resource, "medicationReference")):
        name = coded(medication, "code")
    return f"Medication: {name or 'not named'}."


def _allergy(resource: Entry, _: _Resources) -> str:
    name = coded(resource, "code") or "not named"
    return f"{name}." if name.lower().startswith("allergy") else f"Allergy: {name}."


def _care_plan(resource: Entry, _: _Resources) -> str:
    steps = [coded(one.inner("detail"), "code") for one in entries(resource, "activity") if "detail" in one.values]
    parts = [coded(resource, "category"), ", ".join(dict.fromkeys(filter(None, steps)))]
    return f"Care plan: {': '.join(filter(None, parts)) or 'not described'}."


def _named(word: str, field: str) -> Callable[[Entry, _Resources], str]:
    return lambda resource, _: f"{word}: {coded(resource, field) or 'not named'}."


_WRITERS: Mapping[str, tuple[tuple[str, ...], Callable[[Entry, _Resources], str]]] = {
    "Encounter": (("period.start",), _visit),
    "AllergyIntolerance": (("onsetDateTime", "recordedDate"), _allergy),
    "Condition": (("onsetDateTime", "onsetPeriod.start", "recordedDate"), _condition),
    "Observation": (("effectiveDateTime", "effectivePeriod.start", "effectiveInstant", "issued"), _observation),
    "DiagnosticReport": (("effectiveDateTime", "effectivePeriod.start", "issued"), _report),
    "ImagingStudy": (("started",), _imaging),
    "Procedure": (("performedPeriod.start", "performedDateTime"), _named("Procedure", "code")),
    "MedicationRequest": (("authoredOn",), _medication),
    "MedicationStatement": (("effectiveDateTime", "effectivePeriod.start", "dateAsserted"), _medication),
    "Immunization": (("occurrenceDateTime",), _named("Vaccine", "vaccineCode")),
    "CarePlan": (("period.start", "created"), _care_plan),
}
"""Resources that are told, in the order of one day; where each keeps its day, the best place first; and its words."""


def _first_day(resource: Entry, names: Sequence[str], born: datetime.date) -> datetime.date | None:
    for name in names:
        outer, _, inner = name.partition(".")
        owner = resource.inner(outer) if inner and outer in resource.values else resource
        if day := _day(owner.maybe(inner or outer)):
            if day.year < born.year:
                raise RecordError(f"{resource.maybe('resourceType')}.{name} lies before the year of birth")
            return max(day, born)
    return None


_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:T.*)?)?)?")


def _day(text: str) -> datetime.date | None:
    """The day of a FHIR date, dateTime or instant; a year stands for its first day."""
    if not text:
        return None
    try:
        found = _DATE.fullmatch(text)
        if found is None:
            raise ValueError
        return datetime.date(*(int(part or 1) for part in found.groups()))
    except ValueError as error:
        # The text itself is not quoted: a day tells who a patient is.
        raise RecordError("a date is none that FHIR knows; expected one such as 2013-05-26") from error


def _months(born: datetime.date, day: datetime.date) -> int:
    """Whole months of age."""
    return (day.year - born.year) * 12 + day.month - born.month - (day.day < born.day)


def _age(born: datetime.date, day: datetime.date) -> str:
    """Whole years of age as people count them; months below two years, weeks below two months."""
    months = _months(born, day)
    if months >= OLDEST_TOLD * 12:
        return f"{OLDEST_TOLD} years or more"
    if months >= 24:
        return f"{months // 12} years"
    return f"{months} months" if months >= 2 else f"{(day - born).days // 7} weeks"
