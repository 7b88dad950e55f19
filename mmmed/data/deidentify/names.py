"""Names of people: by what stands around them, and by lists of names. No model is needed.

A name that is found once is looked for in the rest of the text by `repeated`.
"""

import re
from collections.abc import Iterable, Iterator

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.entities import Finding
from mmmed.data.deidentify.eponyms import is_eponym, stem_of
from mmmed.data.deidentify.listed_names import CAPITAL, INITIAL, SEQUENCE, SMALL, TOKEN, UPPER, WORD, find_listed_names
from mmmed.data.deidentify.persons import RELATIVE_WORDS, RELATIVES, find_persons, find_speakers
from mmmed.data.deidentify.rules import Window, found_in, joined, labelled, near, places_of, words
from mmmed.data.deidentify.spanish import is_spanish

# "LAST, FIRST M." after a label; elsewhere a comma parts two things.
_LISTED = rf"{TOKEN}(?:[ \t]+{TOKEN})?,[ \t]*{TOKEN}(?:[ \t]+(?:{INITIAL}|{TOKEN}))?|{SEQUENCE}"

_TITLES = (
    r"(?:Dr|Drs|Mr|Mrs|Ms|Miss|Mx|Prof|Professor|Doctor|Nurse|Dra|Sra|Srta|Doña|Dña|Fr|Rev|Sgt|Capt|Lt"
    r"|Col|Judge|Sister|Uncle|Aunt)"
)
_SPANISH_TITLES = r"(?:Dr|Dra|Dres|Sr|Sra|D|Dª|D\.ª|Dña|Don|Doña|Prof)"
_DEGREES = (
    r"(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|P\.?A\.?(?:-C)?|Ph\.?D\.?|MBBS|FRCS|FACS|FRCR|DPM|DDS|LPN"
    r"|CRNA|MSN|BSN|APRN|DNP|PharmD)"
)

_BEFORE = rf"(?:(?:{_SPANISH_TITLES}|{_TITLES})\.?[ \t]+)?"
_AROUND = {
    "name, after a title": re.compile(rf"{_TITLES}\b\.?[ \t]+(?P<phi>(?:[{UPPER}]\.[ \t]*)?{SEQUENCE}|[{UPPER}]\.)"),
    "name, of the patient": re.compile(rf"[Pp](?:atient|t)(?:'s name(?: is)?|,| name)?[ \t]+(?P<phi>{SEQUENCE})"),
}
_OF_A_RELATIVE = re.compile(rf"{RELATIVES}(?:,| is| named|'s name(?: is)?)?[ \t]+(?P<phi>{TOKEN}(?:[ \t]+{TOKEN})?)")
_DEGREE = re.compile(rf"(?<=[ \t]){_DEGREES}(?!\w)")
_DEGREE_BEGINNINGS = words(
    "m md d do r rn n np p pa ph phd mbbs frcs facs frcr dpm dds lpn crna msn bsn aprn dnp pharmd"
)
_WITH_DEGREE = re.compile(rf"(?P<phi>\b{TOKEN}(?:[ \t]+(?:{TOKEN}|{INITIAL})){{1,3}}),?[ \t]+{_DEGREES}(?!\w)")
_INTRODUCED = re.compile(
    rf"\b(?i:name is|name's|named|called|known as|i am|i'm|this is|goes by|nicknamed|se llama|me llamo|under the name)"
    rf"[ \t]+(?P<phi>{SEQUENCE})"
)
_NAME_IS = re.compile(
    r"\b(?i:my|maiden|last|first|middle|full|her|his|patient's) (?i:name) (?:is|was) (?P<phi>[^\W\d_]+)"
)
_NAME_ASKED = re.compile(rf"\b[Nn]ame\?[ \t\n]+(?:[A-Z]\w+:[ \t]*)?(?P<phi>{SEQUENCE})")
_INTRODUCTIONS = (
    "name is",
    "name's",
    "named",
    "called",
    "known as",
    "i am",
    "i'm",
    "this is",
    "goes by",
    "se llama",
    "me llamo",
    "under the name",
)
_NAMES_TOLD = ("name is", "name was", "name?")
_MONTH_NAMES = ("jan", "april", "may", "june", "august")
_PARTICLES = ("de", "del", "la", "van", "von", "di", "da", "le", "el", "al", "ten", "ter")
_NOT_SAID = ("unknown", "not", "withheld", "unavailable", "the", "a", "missing", "redacted", "listed", "on", "in")
_BY = re.compile(
    rf"[BbpSs/](?:(?<=[Bb])y|(?<=p)or|(?<=[Ss])(?:ignature|igned)|(?<=/)s/)[ \t]*:?[ \t]*{_BEFORE}(?P<phi>{_LISTED})"
)
_DONE = re.compile(
    r"(?:signed|dictated|transcribed|reviewed|read|reported|interpreted|verified|approved|authenticated"
    r"|performed|authored"
    r"|attended|referred|seen|evaluated|prepared|entered|ordered|cosigned|examined|treated|admitted|noted|written|typed"
    r"|remitido|firmado|visto|informado)(?: and \w+)?(?: electronically)?[ \t]*$",
    re.IGNORECASE,
)
_AFTER_LABEL = re.compile(rf"{_BEFORE}(?P<phi>(?:[{UPPER}]\.[ \t]*a?[ \t]*)?(?:{_LISTED}))")
_SMALL_FIELD = re.compile(r"(?P<phi>[^\W\d_]+(?:[ \t]+[^\W\d_]+\.?){0,2})(?=[ \t]*(?:\n|$))")
# After these stands a name and nothing else.
_SURE_LABELS = tuple(
    label.replace("-", " ")
    for label in [
        "name",
        "surname",
        "nombre",
        "apellido",
        "apellidos",
        "médico",
        "medico",
        "autor",
        "responsable-clínico",
        "remitido-por",
        "physician",
        "provider",
        "attending",
        "attending-md",
        "surgeon",
        "radiologist",
        "pcp",
        "next-of-kin",
        "nok",
        "guarantor",
        "author",
        "dictator",
        "transcriptionist",
        "interpreter",
        "technologist",
        "emergency-contact",
    ]
)
# After these it may also be what the person says or has.
_LOOSE_LABELS = (
    "patient",
    "pt",
    "client",
    "doctor",
    "nurse",
    "contact",
    "insured",
    "cc",
    "attn",
    "resident",
    "fellow",
    "consultant",
)
_SPANISH = {
    "name, after a Spanish title": re.compile(rf"\b{_SPANISH_TITLES}(?:\.|(?<=[aª])\b)[ \t]*(?P<phi>{SEQUENCE})"),
}
_TRUSTED = ("name, after a title", "name, after a Spanish title", "name, with a degree")


def find_names(text: str) -> Iterator[Finding]:
    """Yield names by their surroundings and by the lists."""
    patterns = _AROUND | (_SPANISH if is_spanish(text) else {})
    for name, pattern in patterns.items():
        for match in pattern.finditer(text):
            yield from _trimmed(text, *match.span("phi"), rule=name, trusted=name in _TRUSTED)
    lowered = text.lower()
    # A few capitals are longer in small letters; then places do not agree.
    whole = [] if len(lowered) == len(text) else [Window(0, len(text))]
    for window in whole or near(RELATIVE_WORDS.split(), lowered, before=0, after=160):
        for match in _OF_A_RELATIVE.finditer(text, *window):
            yield from _trimmed(text, *match.span("phi"), rule="name, of a relative", trusted=False)
    for window in whole or near(_INTRODUCTIONS, lowered, before=16, after=160):
        for match in _INTRODUCED.finditer(text, *window):
            yield from _trimmed(text, *match.span("phi"), rule="name, introduced", trusted=False)
    for window in whole or near(_NAMES_TOLD, lowered, before=24, after=160):
        for match in (*_NAME_IS.finditer(text, *window), *_NAME_ASKED.finditer(text, *window)):
            if match["phi"].lower() not in _NOT_SAID:
                yield from _trimmed(text, *match.span("phi"), rule="name, introduced", trusted=True)
    degrees = found_in(Window(0, len(text)), _DEGREE, text, places_of(_DEGREE_BEGINNINGS, text))
    for window in joined((match.span() for match in degrees), len(text), before=50, after=1):
        for match in _WITH_DEGREE.finditer(text, *window):
            yield from _trimmed(text, *match.span("phi"), rule="name, with a degree", trusted=True)
    for match in _BY.finditer(text):
        signed = match[0][0].lower() not in "bp" or _DONE.search(text, max(0, match.start() - 32), match.start())
        if signed:
            yield from _trimmed(text, *match.span("phi"), rule="name, signed by", trusted=False)
    yield from _labelled_names(text)
    if not is_spanish(text):
        for span in find_persons(text):
            yield from _trimmed(text, span.start, span.end, rule=span.rule, trusted=True)
        yield from (Finding(one.start, one.end, "name", one.rule) for one in find_speakers(text))
    yield from find_listed_names(text)


def _labelled_names(text: str) -> Iterator[Finding]:
    for field in labelled(text):
        sure = field.label.endswith(_SURE_LABELS)
        if not sure and not field.label.endswith(_LOOSE_LABELS):
            continue
        if sure and text.islower() and (small := _SMALL_FIELD.match(text, field.start)):
            yield Finding(*small.span("phi"), "name", "name, labelled")
        match = _AFTER_LABEL.match(text, field.start)
        if match is not None:
            listed = "," in match["phi"] or " " in match["phi"].strip()
            yield from _trimmed(text, *match.span("phi"), rule="name, labelled", trusted=sure or listed)


def repeated(text: str, names: Iterable[Finding], *, listed: str = "") -> Iterator[Finding]:
    """Yield further places where a part of a found name stands, unless it is written in small letters.

    Args:
        text: Where to look.
        names: Found names.
        listed: The text they were found in, where that is another one.
    """
    parts = name_parts(listed or text, names)
    if text.islower():
        yield from _repeated_small(text, _small_parts(listed or text, names))
    if any(part in text for part in parts):
        # What also stands in small letters is a word here, whatever it is elsewhere.
        parts -= set(SMALL.findall(text))
    if not parts:
        return
    lowered = text.lower()
    whole = [] if len(lowered) == len(text) else [Window(0, len(text))]
    for window in whole or near(parts, lowered, before=40, after=48):
        for word in CAPITAL.finditer(text, *window):
            stem = stem_of(word[0])
            found = stem in parts or ("-" in stem and any(part in parts for part in stem.split("-")))
            if found and not is_eponym(text, word.end(), stem, alone=False):
                yield Finding(word.start(), word.end(), "name", "name, found elsewhere")


def _small_parts(text: str, names: Iterable[Finding]) -> set[str]:
    words = (word[0].lower() for one in names for word in WORD.finditer(text, one.start, one.end))
    return {word for word in words if len(word) > 3} - lexicon.plain_words()


def _repeated_small(text: str, parts: set[str]) -> Iterator[Finding]:
    """Yield the same for a text without capitals, in which only what is no word is looked for."""
    for word in SMALL.finditer(text):
        if stem_of(word[0]) in parts:
            yield Finding(word.start(), word.end(), "name", "name, found elsewhere")


def name_parts(text: str, names: Iterable[Finding]) -> set[str]:
    """The words of found names that are worth looking for: no initials, no titles, no words of headings."""
    parts = {
        word[0].lower()
        for one in names
        for word in WORD.finditer(text[one.start : one.end])
        if len(word[0]) > 2 and word[0].lower() not in lexicon.STRUCTURE and word[0][0].isupper()
    }
    return {part.removesuffix("'s").removesuffix("\u2019s") for part in parts}


def _trimmed(text: str, start: int, end: int, *, rule: str, trusted: bool) -> Iterator[Finding]:
    """Cut a sequence at the first word that is no part of a name; give nothing where that is the first.

    After a title any word may be a name ("Mr. Page"); elsewhere one of the lists must know the first or the second.
    """
    words = list(WORD.finditer(text, start, end))
    kept = start
    for number, word in enumerate(words):
        lower = stem_of(word[0])
        is_joiner = (number > 0 and word[0][0].islower()) or (trusted and number == 0 and lower in _PARTICLES)
        is_initial = len(lower) == 1 and word[0].isupper() and (number > 0 or trusted)
        is_surname = trusted and number < 2 and lower in lexicon.surnames()
        # "Jan Jílek" is no month.
        is_given = trusted and number == 0 and len(words) > 1 and lower in _MONTH_NAMES
        if lower in lexicon.STRUCTURE and not (is_joiner or is_initial or is_surname or is_given):
            break
        if not trusted and number == 0 and not _begins_a_name(lower, words[1:2]):
            break
        if number > 1 and lower in lexicon.words_of("words") and lower not in lexicon.surnames():
            break
        if not trusted and is_eponym(text, word.end(), lower, alone=False):
            break
        if not is_joiner:
            kept = word.end()
    if text[kept : kept + 1] == ":":
        if not trusted:
            return  # a heading: "Patient Education:"
        # The next field of the form begins on the same line.
        kept = max((word.end() for word in words if word.end() < kept), default=start)
    if kept > start:
        if text[kept : kept + 1] == "." and not text[kept - 2 : kept - 1].isalnum():
            kept += 1
        yield Finding(start, kept, "name", rule)


def _begins_a_name(lower: str, following: list[re.Match[str]]) -> bool:
    if lexicon.plainly(lower) in lexicon.clear_first_names():
        return True
    known = lexicon.names()
    if lower in lexicon.words_of("words"):
        second = stem_of(following[0][0]) if following else ""
        return lower in known and second in known and second not in lexicon.words_of("words")
    # A word that no list has is more likely a name than not, unless it stands alone.
    return lower in known or (bool(following) and stem_of(following[0][0]) not in lexicon.STRUCTURE)
