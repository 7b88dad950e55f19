"""Rules for what has the shape of a number or an address of the net: contacts, record numbers, serials, accounts."""

import re
from collections.abc import Iterator
from functools import lru_cache

from mmmed.data.deidentify.entities import Finding, Kind
from mmmed.data.deidentify.rules import Window, apply, around, found_in, joined, near, places_of, rule, words

# What may stand between a label such as "MRN" and its value; a line break too, in forms that are laid out in lines.
_GAP = r"(?:\s*(?:[:#=(]|\bno\b\.?|\bn[º°]|\bnum(?:ber|ero)?\b\.?|\bid\b|\bis\b|\bwas\b|\bof\b)\s*|[ \t]+){1,4}"
# A value has a digit somewhere, or else any word after "ID" would be one.
_VALUE = r"(?P<phi>\#?(?=[\w/.-]{0,18}\d)[A-Z0-9](?:[\w/-]|\.(?=\w)){2,30})"
_PHONE_WORDS = (
    "tel telephone telefono telefona teléfono télefono téléfono telf tlf tlfn tlfo tlfno tlfon tlfono tfno phone ph"
    " call called calling cell mobile movil móvil page pager contact reach reached text texted number registered"
    " voicemail"
)
_NO_UNIT = r"(?!\s?(?:mg|m[lL]|mcg|µg|g\b|k?cal|IU\b|[uU]\b|cm|mm|m?Eq|m?[oO]sm|cells|copies|%|/))"

_NET = (
    # The dot of the domain, or the space that a scanner has put after the sign, may be wrong.
    rule(
        "email",
        "email",
        r"(?P<phi>[\w.+%-]+@(?:[A-Za-z][\w-]*(?:\.[\w-]+)*|[\w-]+(?:\.[\w-]+)+| [\w-]+(?:\.[\w-]+)+))",
        flags=0,
        needs="@",
    ),
    rule(
        "email, spelt out",
        "email",
        r"(?P<phi>\b[\w.+-]+\s?(?:\[at\]|\(at\))\s?[\w-]+\s?(?:\.|\[dot\]|\(dot\))\s?\w{2,})",
        needs="[at] (at)",
    ),
    rule("url", "url", r"(?P<phi>\b(?:https?|ftp)://[^\s<>\"')\]]*[^\s<>\"')\].,;?!])", needs="://"),
    rule("www", "url", r"(?P<phi>\bwww\.[\w-]+\.[^\s<>\"')\]]*[^\s<>\"')\].,;?!])", needs="www."),
    rule(
        "domain",
        "url",
        r"(?P<phi>(?<![\w@.-])[a-z0-9-]{2,}(?:\.[a-z0-9-]+)*\.(?:com|org|net|edu|gov|info|biz|io|co\.uk|nhs\.uk)\b"
        r"(?:/[^\s<>\"')\]]*)?)",
        needs=".com .org .net .edu .gov .info .biz .io .co.uk .nhs.uk",
    ),
)

_CONTACTS = (
    rule(
        "phone, Spanish",
        "phone",
        r"(?P<phi>[6-9](?<![\d./-][6-9])\d{2}(?:[ .]\d{2}[ .]\d{2}[ .]\d{2}|[ .]\d{3}[ .]?\d{3})(?![\d/-]))",
        flags=0,
    ),
    rule(
        "phone, before its place",
        "phone",
        r"(?P<phi>[+(\d](?<!\d.)[\d ()]{6,18}\d(?:-\d{2,4})?)-(?:[Oo]ffice|[Ff]ax|[Hh]ome|[Ww]ork|[Mm]obile|[Cc]ell)\b",
        flags=0,
    ),
    rule(
        "ip v4", "ip_address", r"(?P<phi>\d(?<![\d.]\d)\d{0,2}(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3})(?!\.?\d)", flags=0
    ),
    rule(
        "ip v6",
        "ip_address",
        r"(?P<phi>[0-9a-fA-F](?<![\w:].)[0-9a-fA-F]{0,3}(?::[0-9a-fA-F]{1,4}){4,7}(?![\w:]))",
        flags=0,
    ),
    rule("mac", "device", r"(?P<phi>[0-9a-fA-F](?<!\w.)[0-9a-fA-F](?:[:-][0-9a-fA-F]{2}){5}\b)", flags=0),
    rule("fax, labelled", "fax", r"\bfax\b[^\d+(\n]{0,20}\n?\s*(?P<phi>\+?\s?\(?\d[\d ().-]{5,18}\d)", begins="fax"),
    rule(
        "phone, ten digits",
        "phone",
        r"(?P<phi>[+(\d](?<![\d.-].)(?<=[+(]|\d)(?:(?<=\+)1[-. ]?\(?\d{3}|(?<=1)[-. ]?\(?\d{3}|(?<=\()\d{3}"
        r"|(?<=\d)\d\d)\)?[-. ]?\s?"
        r"\d{3}[-. ]\d{4}(?:\s?(?:x|X|[Ee]xt\.?)\s?\d{1,5})?(?![\d-]))",
        flags=0,
    ),
    rule(
        "phone, international",
        "phone",
        r"(?P<phi>[+0](?<!\w.)(?:(?<=\+)|0)\d{1,3}[ .-]?(?:\(0\)[ .-]?)?\d(?:[ .()-]{0,2}\d){6,11})(?!\d)",
        flags=0,
    ),
    rule(
        "phone, trunk zero",
        "phone",
        r"(?P<phi>0(?<![\d./-]0)\d{1,4}[ -]\d{2,4}(?:[ -]\d{2,4}){1,3}(?!\d|[./-]\d))",
        flags=0,
    ),
    rule(
        "phone, labelled",
        "phone",
        rf"\b(?:{_PHONE_WORDS.replace(' ', '|')})\b\.?[^\d+(\n]{{0,25}}\n?[ \t]*"
        r"(?P<phi>\+?\s?\(?\d(?:[ ().-]{0,2}\d){6,13})(?![\d/])",
        begins=_PHONE_WORDS,
    ),
    rule(
        "phone, seven digits",
        "phone",
        rf"(?P<phi>\d(?<![\d./-]\d)(?<!\+\d)\d\d(?<!19\d)(?<!20\d)[- ]\d{{4}}(?![\d./%-])){_NO_UNIT}",
        flags=0,
    ),
    rule("phone, pairs", "phone", r"(?P<phi>\d(?<![\d./-]\d)\d-\d{2}-\d{2}-\d{2}(?![\d./-]))", flags=0),
    rule(
        "phone, groups",
        "phone",
        r"(?P<phi>\d(?<![\d./-]\d)(?:\d\d \d{2} \d{3}|\d \d{6}|\d\d \d{3} \d{3}|\d\d \d{2} \d{2} \d{2})(?! ?[\d./-]))",
        flags=0,
    ),
)

_RECORDS = (
    rule("ssn", "ssn", r"(?P<phi>\d(?<![\d-]\d)\d\d-\d{2}-\d{4}(?![\d-]))", flags=0),
    rule(
        "ssn, labelled",
        "ssn",
        r"\b(?:ssn|social security(?: number| no\.?| #)?)\b[^\d\n]{0,10}(?P<phi>\d{3}[- ]?\d{2}[- ]?\d{4})\b",
        begins="ssn social",
    ),
    rule(
        "vin",
        "vehicle",
        r"(?P<phi>[A-HJ-NPR-Z0-9](?<!\w.)(?=[A-Z]*\d)(?=\d*[A-Z])[A-HJ-NPR-Z0-9]{16}\b)",
        flags=0,
    ),
    rule(
        "spaced college number",
        "licence",
        r"\bN[º°o]\.?\s?Col(?:egiado)?\b\W{0,4}(?P<phi>\d[\d ]{3,14}\d)",
        begins="n nº no nºcol nocol nºcolegiado nocolegiado",
        needs="col",
    ),
    rule("spaced insurance number", "health_plan", r"\bNASS\b\W{0,4}(?P<phi>\d[\d /]{5,16}\d)", begins="nass"),
    rule("iban", "account", r"(?P<phi>[A-Z](?<!\w.)[A-Z]\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,4})?\b)", flags=0),
    rule("uid", "identifier", r"(?P<phi>[0-2](?<![\d.]\d)(?:\.\d+){6,}(?![\d.]))", flags=0, needs="."),
    rule("uuid", "identifier", r"(?P<phi>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)", flags=0),
    rule(
        "letters and digits",
        "identifier",
        r"(?P<phi>\#?[A-Z](?<![\w.-].)(?!CT\d|SRCTN|MID|MC\d|CD\d|PT\d)[A-Z]{0,4}-?\d{5,}(?:-\d+)*(?!\w))",
        flags=0,
    ),
    rule(
        "letters and digits, hyphenated", "identifier", r"(?P<phi>\#?[A-Z](?<![\w.-].)[A-Z]{1,4}-\d{4,}(?!\w))", flags=0
    ),
    rule("digits and letters", "identifier", r"(?P<phi>\#?\d(?<![\w.-]\d)\d{3,}-?[A-Z]{2,5}(?!\w))", flags=0),
    rule(
        "hyphenated digits",
        "identifier",
        rf"(?P<phi>\#?\d(?<![\w./-]\d)(?!\d\d-\d{{2,3}}(?!\d|-))\d{{2,}}(?:-\d{{2,}}){{1,3}}(?![\w/-])){_NO_UNIT}",
        flags=0,
    ),
    rule("numbered", "identifier", r"(?P<phi>\#(?<!\w.)\s?\d{4,}\b)", flags=0),
    rule("long number", "identifier", rf"(?P<phi>\d(?<![\w.,$€/-]\d)\d{{6,18}}(?![\w,]|\.\d)){_NO_UNIT}", flags=0),
)

_LABELS: dict[Kind, str] = {
    "accession": r"accession|acc|specimen|order|exam|requisition",
    "record_number": r"mrns?|mr|mc|medical record|med\.? rec\.?|records?|chart|unit|patient id(?:entifier)?|patient"
    r"|pt id|pt|hosp(?:ital)? (?:no|id)|nhc|h\.?c\.?|historia(?: cl[ií]nica)?|episodio|cipa|dni|nie|pasaporte|nhs|case"
    r"|file|visit|encounter|csn|study|site|ref(?:erence)?",
    "health_plan": r"insurance|member(?:ship)?|policy|subscriber|beneficiary|plan|group|medicare|medicaid|hicn|mbi|nass"
    r"|coverage",
    "account": r"account|acct|invoice|bill(?:ing)?|claim|iban|card|cc|credit card",
    "licence": r"licen[cs]e|lic|dea|npi|certificate|cert|registration|passport|driver'?s? licen[cs]e",
    "vehicle": r"vin|plate|license plate|vehicle",
    "device": r"serial|s/n|sn|device|implant|lot|udi|pacemaker",
    "identifier": r"id|identifier|confirmation|ticket|code|key|number|no",
}
# The first words of these.
_LABEL_BEGINNINGS = words(
    "accession acc specimen order exam requisition mrn mrns mr mc medical med record records chart unit patient pt hosp"
    " hospital nhc h hc historia episodio cipa dni nie pasaporte nhs case file visit encounter csn study site ref"
    " reference insurance member membership policy subscriber beneficiary plan group medicare medicaid hicn mbi"
    " nass coverage account acct invoice bill billing claim iban card cc credit licence license lic dea npi certificate"
    " cert registration passport driver drivers vin plate vehicle serial s sn device implant lot udi pacemaker id"
    " identifier confirmation ticket code key number no"
)
_LABELLED = re.compile(
    rf"\b(?:{'|'.join(f'(?P<{kind}>{labels})' for kind, labels in _LABELS.items())})\b{_GAP}{_VALUE}", re.IGNORECASE
)
# Words that need a sign after them, since they also stand before ordinary numbers: "code 1234", "in case 12a".
_WEAK = re.compile(
    r"(?i:id|identifier|confirmation|ticket|code|key|number|no|unit|order|exam|visit|study|site|group"
    r"|plan|card|lot)(?: id| no| number)?\b[ \t]*[.:#=(]"
)
# Four digits with little between them: whatever the rules want has that. Its first letter alone is looked for fast.
_DIGITS = re.compile(r"[\d:#A-Z](?:(?<=\d)\D{0,2}\d\D{0,2}\d\D{0,2}\d|(?<=[:#]) ?\d{2}|(?<=[A-Z])-?\d{3})")
_NETLIKE = ("@", "://", "www.", "[at", "(at")
_DOMAINLIKE = re.compile(r"\.(?i:com|org|net|edu|gov|info|biz|io|uk|[a-z]+/)")
_GROUPS = re.compile(r":[0-9a-fA-F]{1,4}:")


@lru_cache(maxsize=8)
def digit_windows(text: str) -> tuple[Window, ...]:
    """Stretches of a text in which a number may identify somebody."""
    return tuple(around(_DIGITS, text, before=48, after=40))


def find_contacts(text: str) -> Iterator[Finding]:
    """Yield phones, faxes, and addresses of mail and net."""
    yield from apply(_NET, text, _net_windows(text))
    windows = digit_windows(text)
    if _GROUPS.search(text):
        windows = (*around(_GROUPS, text, before=8, after=40), *windows)
    yield from apply(_CONTACTS, text, windows)


def find_records(text: str) -> Iterator[Finding]:
    """Yield numbers of records, plans, accounts, licences, vehicles and devices, and any other long number."""
    windows = digit_windows(text)
    yield from apply(_RECORDS, text, windows)
    places = places_of(_LABEL_BEGINNINGS, text)
    for window in windows:
        for match in found_in(window, _LABELLED, text, places):
            kind = next(kind for kind in _LABELS if match[kind])
            if not _WEAK.match(match[0]) and _WEAK.match(f"{match[kind]}:"):
                continue
            yield Finding(*match.span("phi"), kind, f"{kind.replace('_', ' ')}, labelled")


def _net_windows(text: str) -> list[Window]:
    """Stretches that may hold an address: mail's has at most 254 characters (RFC 5321), the net's are looked for as
    far."""
    lowered = text.lower()
    # A few capitals are longer in small letters; then places do not agree.
    if len(lowered) != len(text):
        return [Window(0, len(text))]
    windows = near(_NETLIKE, lowered, before=256, after=260)
    windows += around(_DOMAINLIKE, text, before=256, after=256)
    return joined(sorted(windows), len(text), before=0, after=0)
