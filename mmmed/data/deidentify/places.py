"""Rules for addresses, towns, institutions, and for ages over 89."""

import re
from collections.abc import Iterator

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.entities import Finding
from mmmed.data.deidentify.rules import Window, apply, around, found_in, joined, labelled, places_of, rule, words
from mmmed.data.deidentify.spanish import is_spanish

_WORD = r"[A-ZÀ-ÖØ-Þ][\w'\u2019.-]*"
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA"
    "|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC|PR|VI|GU|AS|MP|FM|MH|PW|AA|AE|AP"
)
_STREET = lexicon.alternatives("streets")
_UNIT = r"(?:,?[ \t]*\n?[ \t]*(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Room|Rm|No|#)\.?[ \t]*\#?[\w-]+)"
_CARE = (
    r"(?:Hospitals?|Medical (?:Center|Centre|Group|College)|Med\.? (?:Center|Ctr)|Health(?:care)? "
    r"(?:Center|Centre|System)"
    r"|Community Health Center|Clinics?|Infirmary|Hospice|Sanatorium|Nursing Home|Memorial|Healthcare"
    r"|Cancer (?:Center|Institute)"
    r"|Medical School|Health|Presbyterian|Gen(?:eral)?|University Hospital|Institute|University|Med|Rehab|Urgent Care)"
)
# One of these words stands in whatever `_INSTITUTION` finds.
_CARE_WORDS = words(
    "hospital hospitals medical med health healthcare community clinic clinics infirmary hospice sanatorium nursing"
    " memorial cancer presbyterian gen general university institute rehab urgent st mt clínica centro hosp"
)
# A place of care is named; "the Hospital" and "Emergency Clinic" are not.
_COMMON = re.compile(
    r"^(?:(?:The|This|Our|Your|Her|His|Any|Community|Mental|Public|Home|Primary|Women'?s|Men'?s|Family"
    r"|Behavioral|Global"
    r"|World|National|Oral|Dental|General|Outpatient|Emergency|Pain|Physical|Reproductive|Sexual|Health|Medical|Patient"
    r"|Bone|Eye|Skin|Child|In|At|To|From|Constitutional|Psychiatric)\s+)*"
    r"(?:Hospitals?|Health|Clinics?|Medical Center|General|Memorial|Institute|University|Med|Gen|Presbyterian|Rehab"
    r"|Healthcare|Hospice|Infirmary)$"
)
_CITIES = lexicon.alternatives("towns")
_ES_STREET = (
    r"(?:Calle|C/|Cl\.|Avda\.?|Avenida|Av\.|Paseo|Pº|Plaza|Pza\.?|Pl\.|Carrer|Ctra\.?|Carretera|Ronda|Rúa"
    r"|Camino|Travesía|Urb\.?|Gran Vía|Vía|Glorieta|Passeig|Rambla|Bulevar)"
)

_NUMBERED = (
    rule(
        "address, street",
        "address",
        rf"(?P<phi>\d(?<![\w/.-]\d)\d{{0,5}}(?:[ \t]+(?:N|S|E|W|North|South|East|West)\.?)?(?:[ \t]+{_WORD}){{1,4}}?"
        rf"[ \t]+(?:{_STREET})\b\.?{_UNIT}?)(?![ \t]*(?:mg|ml|syndrome|disease))",
        flags=0,
    ),
    rule(
        "address, box",
        "address",
        r"(?P<phi>\b(?:P\.?\s?O\.?\s?Box|PSC|Unit|CMR)\s+\d+(?:,?\s*Box\s+\d+)?)",
        begins="p po pobox psc unit cmr",
        needs="box",
    ),
)
_CODED = (
    rule(
        "address, military",
        "address",
        r"(?P<phi>\b(?:USNV|USNS|USS|USCGC|APO|FPO|DPO)\b[\w ,]{0,40}?(?:AA|AE|AP)\s+\d{5})",
        flags=0,
        begins="usnv usns uss uscgc apo fpo dpo",
    ),
    rule("zip and four", "place", r"(?P<phi>\d(?<![\d-]\d)\d{4}-\d{4}(?![\d-]))", flags=0),
    rule(
        "zip, labelled",
        "place",
        r"\b(?:zip(?: ?code)?|postal(?: code)?|postcode|c\.?p\.?|c[oó]digo postal)\b\s*(?:is|:|#)\s*"
        r"(?P<phi>[A-Z0-9]{2,6}(?:[- ][A-Z0-9]{2,4})?)(?!\w)",
        begins="zip zipcode postal postalcode postcode c cp codigo código",
    ),
)
_STATE_AND_ZIP = rule(
    "town, state and zip",
    "place",
    rf"(?P<phi>(?:\b{_WORD}[ \t]+){{0,3}}\b{_WORD},?[ \t]+(?:{_STATES})[ \t,]+\d{{5}}(?:-\d{{4}})?)(?!\d)",
    flags=0,
)
_ZIP = re.compile(r"[A-Z](?=[A-Z][ \t,]+\d{5})")
_CODE = re.compile(r"\d(?=\d{3})\d{3}")
_STATE = rule(
    "town and state",
    "place",
    rf"(?P<phi>(?:\b{_WORD}[ \t]+){{0,2}}\b[A-Z][a-z]+),[ \t]+(?:{_STATES})\b(?![\w'])",
    flags=0,
)
_STATE_CODE = re.compile(rf",[ \t]+(?:{_STATES})\b")
_SPANISH = (
    rule(
        "street, Spanish",
        "address",
        rf"(?P<phi>\b{_ES_STREET}\s*(?:(?:de(?:l)?|la|los|las|d[eE]n?)\s+)*{_WORD}(?:[ ,]+(?:(?:de(?:l)?|la"
        rf"|los|las|y|i|s/n"
        rf"|n[º°.]*)[ ,]+)*(?:{_WORD}|\d+\w?)){{0,6}}(?:[, ]+(?:s/n|\d+))?)",
        flags=0,
    ),
    rule(
        "postal code and town, Spanish",
        "place",
        rf"(?P<phi>(?<![\w.,/-])(?:0[1-9]|[1-4]\d|5[0-2])\d{{3}}[ ,.-]+{_WORD}(?:[ ](?:de|la|el"
        rf"|del)?[ ]?{_WORD}){{0,2}})",
        flags=0,
    ),
)
_TOWN = re.compile(
    rf"\b(?:{_CITIES})\b(?!\s+(?:virus|criteria|classification|score|protocol|heart|sign))(?:,? (?:{_STATES})\b)?"
)
_TOWN_BEGINNINGS = frozenset(word.lower() for word in re.findall(r"(?:^|\|)([^\W\d_]+)", _CITIES))
_LINE = re.compile(r"[^\n;]{3,100}?(?=\.?[ \t]*(?:\n|$|;|\. ))")
_FIELD = re.compile(r"[^\n,.;]{2,60}")
_ADDRESS_LABELS = ("address", "domicilio", "dirección", "direccion")
_TOWN_LABELS = ("localidad", "provincia", "población", "poblacion", "municipio", "ciudad", "city", "town", "county")

_INSTITUTION = re.compile(
    rf"\b(?:(?:St|Mt|Ft|Dr)\.?[ \t]+)?{_WORD}(?:[ \t]+(?:(?:of|and|&|for"
    rf"|the)[ \t]+){{0,2}}{_WORD}){{0,5}}?[ \t]+{_CARE}\b(?:[ \t]+(?:Hospital|Center|Clinic)\b)?"
    rf"(?:[ \t]+(?:of|in|at)[ \t]+{_WORD}(?:[ \t]+{_WORD})?)?|\b(?:St|Mt)\.[ \t]+[A-Z][a-z]+(?:'s"
    rf"|\u2019s)\b|\b(?:Hospital|Clínica|Centro de Salud|Hosp\.)"
    rf"(?:[ \t]+(?:General|Universitario|Clínico|Comarcal|Regional|Infantil|Central|Provincial|Militar|de"
    rf"|del|la|el|los|las|y)\b)*(?:[ \t]+{_WORD})(?:[ \t]+(?:(?:de|del|la|y)[ \t]+)*{_WORD}){{0,4}}"
)
_OLD = re.compile(r"[19](?<![\d./].)(?:(?<=9)\d|(?<=1)[0-2]\d)(?![\d%/]|\.\d)")
_YEARS = re.compile(r"[ -]?(?:-?year|yr|y/?o\b|años|y\.o)", re.IGNORECASE)
_AGED = re.compile(r"\b(?:age|aged|edad)\b\s*(?::|of|is)?\s*$", re.IGNORECASE)


def find_places(text: str) -> Iterator[Finding]:
    """Yield addresses, towns, postal codes and named places of care; states and countries may stay."""
    yield from apply(_NUMBERED, text)
    yield from apply(_CODED, text, around(_CODE, text, before=60, after=12))
    yield from apply([_STATE_AND_ZIP], text, around(_ZIP, text, before=60, after=24))
    yield from apply([_STATE], text, around(_STATE_CODE, text, before=40, after=4))
    if is_spanish(text):
        yield from apply(_SPANISH, text)
    yield from _labelled_places(text)
    for town in found_in(Window(0, len(text)), _TOWN, text, places_of(_TOWN_BEGINNINGS, text)):
        yield Finding(town.start(), town.end(), "place", "town")
    care = places_of(_CARE_WORDS, text)
    for window in joined(((place, place) for place in care), len(text), before=120, after=120):
        for match in _INSTITUTION.finditer(text, *window):
            if not _COMMON.match(match[0]):
                yield Finding(match.start(), match.end(), "institution", "place of care")


def find_ages(text: str) -> Iterator[Finding]:
    """Yield ages over 89, which are so rare that they point at a person."""
    for match in _OLD.finditer(text):
        if _YEARS.match(text, match.end()) or _AGED.search(text, max(0, match.start() - 12), match.start()):
            yield Finding(match.start(), match.end(), "age", "age over 89")


def _labelled_places(text: str) -> Iterator[Finding]:
    for field in labelled(text):
        if field.label.endswith(_ADDRESS_LABELS) and "mail" not in field.label and "ip" not in field.label:
            if line := _LINE.match(text, field.start):
                yield Finding(line.start(), line.end(), "address", "address, labelled")
        elif field.label.endswith(_TOWN_LABELS) and (line := _FIELD.match(text, field.start)):
            yield Finding(line.start(), line.end(), "place", "town, labelled")
