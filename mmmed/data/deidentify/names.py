"""Names of people: by what stands around them, and by lists of names. No model is needed.

A name that is found once is looked for in the rest of the text by `repeated`.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.entities import Finding
from mmmed.data.deidentify.rules import around, labelled

_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢĪİĶĹĽŁŃŅŇŐŒŔŘŚŞŠŢŤŪŮŰŹŻŽΑ-ΩА-Я"
_TOKEN = rf"[{_UPPER}][\w'’`-]*"
_INITIAL = rf"[{_UPPER}]\b\.?"
_JOINER = (
    r"(?:de la|de las|de los|de|del|van|van der|van den|von|der|den|la|le|da|dos|das|di|bin|ibn|al|el|y|i|e|ter|zu|af)"
)
_REST = rf"(?:[ \t]+(?:{_JOINER}[ \t]+)?(?:{_TOKEN}\.?|{_INITIAL})){{0,4}}"
_SEQUENCE = rf"{_TOKEN}{_REST}"
# "LAST, FIRST M." after a label; elsewhere a comma parts two things.
_LISTED = rf"{_TOKEN}(?:[ \t]+{_TOKEN})?,[ \t]*{_TOKEN}(?:[ \t]+(?:{_INITIAL}|{_TOKEN}))?|{_SEQUENCE}"

_TITLES = r"(?:Dr|Drs|Mr|Mrs|Ms|Miss|Mx|Prof|Professor|Doctor|Nurse|Dra|Sra|Srta|Doña|Dña|Fr|Rev|Sgt|Capt|Lt|Col|Judge|Sister|Uncle|Aunt)"
_SPANISH_TITLES = r"(?:Dr|Dra|Dres|Sr|Sra|D|Dª|D\.ª|Dña|Don|Doña|Prof)"
_RELATIVES = (
    r"(?:wife|husband|spouse|partner|son|daughter|mother|father|mom|dad|brother|sister|friend|neighbou?r|caregiver"
    r"|guardian|girlfriend|boyfriend|fianc[ée]e?|aunt|uncle|cousin|niece|nephew|grandson|granddaughter|grandmother|grandfather)"
)
_DEGREES = r"(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|P\.?A\.?(?:-C)?|Ph\.?D\.?|MBBS|FRCS|FACS|FRCR|DPM|DDS|LPN|CRNA|MSN|BSN|APRN|DNP|PharmD)"

_BEFORE = rf"(?:(?:{_SPANISH_TITLES}|{_TITLES})\.?[ \t]+)?"
_AROUND = {
    "name, after a title": re.compile(rf"{_TITLES}\b\.?[ \t]+(?P<phi>(?:[{_UPPER}]\.[ \t]*)?{_SEQUENCE}|[{_UPPER}]\.)"),
    "name, of a relative": re.compile(
        rf"{_RELATIVES}(?:,| is| named|'s name is)?[ \t]+(?P<phi>{_TOKEN}(?:[ \t]+{_TOKEN})?)"
    ),
    "name, of the patient": re.compile(rf"[Pp](?:atient|t)(?:'s name(?: is)?|,| name)?[ \t]+(?P<phi>{_SEQUENCE})"),
}
_DEGREE = re.compile(rf",?[ \t]{_DEGREES}(?!\w)")
_WITH_DEGREE = re.compile(rf"(?P<phi>\b{_TOKEN}(?:[ \t]+(?:{_TOKEN}|{_INITIAL})){{1,3}}),?[ \t]+{_DEGREES}(?!\w)")
_INTRODUCED = re.compile(
    rf"\b(?i:name is|name's|named|called|known as|i am|i'm|this is|goes by|nicknamed|se llama|me llamo|under the name)"
    rf"[ \t]+(?P<phi>{_SEQUENCE})"
)
_NAME_IS = re.compile(
    r"\b(?i:my|maiden|last|first|middle|full|her|his|patient's) (?i:name) (?:is|was) (?P<phi>[^\W\d_]+)"
)
_NAME_ASKED = re.compile(rf"\b[Nn]ame\?[ \t\n]+(?:[A-Z]\w+:[ \t]*)?(?P<phi>{_SEQUENCE})")
_INTRODUCTIONS = ("name", "call", "known as", "i am", "i'm", "this is", "goes by", "llam")
_PARTICLES = ("de", "del", "la", "van", "von", "di", "da", "le", "el", "al", "ten", "ter")
_NOT_SAID = ("unknown", "not", "withheld", "unavailable", "the", "a", "missing", "redacted", "listed", "on", "in")
_BY = re.compile(rf"(?:[Bb]y|por|[Ss]ignature|/s/|[Ss]igned)[ \t]*:?[ \t]*{_BEFORE}(?P<phi>{_LISTED})")
_DONE = re.compile(
    r"(?:signed|dictated|transcribed|reviewed|read|reported|interpreted|verified|approved|authenticated|performed|authored"
    r"|attended|referred|seen|evaluated|prepared|entered|ordered|cosigned|examined|treated|admitted|noted|written|typed"
    r"|remitido|firmado|visto|informado)(?: and \w+)?(?: electronically)?[ \t]*$",
    re.IGNORECASE,
)
_AFTER_LABEL = re.compile(rf"{_BEFORE}(?P<phi>(?:[{_UPPER}]\.[ \t]*a?[ \t]*)?(?:{_LISTED}))")
# After these stands a name and nothing else.
_SURE_LABELS = tuple(
    label.replace("-", " ")
    for label in ["name", "surname", "nombre", "apellido", "apellidos", "médico", "medico", "autor", "responsable-clínico", "remitido-por", "physician", "provider", "attending", "attending-md", "surgeon", "radiologist", "pcp", "next-of-kin", "nok", "guarantor", "author", "dictator", "transcriptionist", "interpreter", "technologist", "emergency-contact"]
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
    "name, after a Spanish title": re.compile(rf"\b{_SPANISH_TITLES}(?:\.|(?<=[aª])\b)[ \t]*(?P<phi>{_SEQUENCE})"),
}
_TRUSTED = ("name, after a title", "name, after a Spanish title", "name, with a degree")
_SERIES = re.compile(rf"{_TOKEN}(?:, {_TOKEN})*,? (?:and|y) {_TOKEN}|{_TOKEN}(?:, {_TOKEN}){{2,}}")
_RUN = re.compile(rf"[{_UPPER}](?<![\w@.].)[\w'’`-]*(?:[ \t]+(?:{_JOINER}[ \t]+)?(?:{_TOKEN}|{_INITIAL}))*")
_SMALL = re.compile(r"\b[a-zß-öø-ÿ][\w'’-]*")
_CAPITAL = re.compile(rf"[{_UPPER}](?<!\w.)[\w'’`-]*")
_WORD = re.compile(r"[^\W\d_][\w'’`-]*")
_LISTED_CAPITALS = re.compile(
    rf"(?P<last>[{_UPPER}](?<!\w.)['’\w-]+),[ \t]*(?P<first>[{_UPPER}]['’\w-]+)(?:[ \t]+[{_UPPER}]\b\.?)?"
)
_NOUN = re.compile(r"(?:['’]s)?[ \t]+([^\W\d_]+)")
_SURE_NOUNS = ("disease", "syndrome", "sign", "tumor", "tumour", "lymphoma", "palsy", "phenomenon")
_SPANISH_WORDS = re.compile(r"\b(?:el|la|los|las|que|con|por|del|una|paciente|años|se)\b", re.IGNORECASE)
_LOOKS_SPANISH = 0.06


@lru_cache(maxsize=64)
def is_spanish(text: str) -> bool:
    """Say whether a text is more likely Spanish than English, by its smallest words."""
    beginning = text[:2000]
    return len(_SPANISH_WORDS.findall(beginning)) > _LOOKS_SPANISH * (beginning.count(" ") + 1) + 1


def find_names(text: str) -> Iterator[Finding]:
    """Yield names by their surroundings and by the lists."""
    patterns = _AROUND | (_SPANISH if is_spanish(text) else {})
    for name, pattern in patterns.items():
        for match in pattern.finditer(text):
            yield from _trimmed(text, *match.span("phi"), rule=name, trusted=name in _TRUSTED)
    lowered = text.lower()
    if any(word in lowered for word in _INTRODUCTIONS):
        for match in _INTRODUCED.finditer(text):
            yield from _trimmed(text, *match.span("phi"), rule="name, introduced", trusted=False)
        for match in (*_NAME_IS.finditer(text), *_NAME_ASKED.finditer(text)):
            if match["phi"].lower() not in _NOT_SAID:
                yield from _trimmed(text, *match.span("phi"), rule="name, introduced", trusted=True)
    for window in around(_DEGREE, text, before=48, after=1):
        for match in _WITH_DEGREE.finditer(text, *window):
            yield from _trimmed(text, *match.span("phi"), rule="name, with a degree", trusted=True)
    for match in _BY.finditer(text):
        signed = match[0][0].lower() not in "bp" or _DONE.search(text, max(0, match.start() - 32), match.start())
        if signed:
            yield from _trimmed(text, *match.span("phi"), rule="name, signed by", trusted=False)
    yield from _labelled_names(text)
    yield from _listed_names(text)
    yield from _series(text)
    if text.islower():
        yield from _small_names(text)


def _labelled_names(text: str) -> Iterator[Finding]:
    for field in labelled(text):
        sure = field.label.endswith(_SURE_LABELS)
        if not sure and not field.label.endswith(_LOOSE_LABELS):
            continue
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
    if parts:
        # What also stands in small letters is a word here, whatever it is elsewhere.
        parts -= set(_SMALL.findall(text))
    if not parts:
        return
    for word in _CAPITAL.finditer(text):
        stem = _stem(word[0])
        found = stem in parts or any(part in parts for part in stem.split("-"))
        if found and not is_eponym(text, word.end(), stem, alone=False):
            yield Finding(word.start(), word.end(), "name", "name, found elsewhere")


def name_parts(text: str, names: Iterable[Finding]) -> set[str]:
    """The words of found names that are worth looking for: no initials, no titles, no words of headings."""
    parts = {
        word[0].lower()
        for one in names
        for word in _WORD.finditer(text[one.start : one.end])
        if len(word[0]) > 2 and word[0].lower() not in lexicon.STRUCTURE and word[0][0].isupper()
    }
    return {part.removesuffix("'s").removesuffix("’s") for part in parts}


def _trimmed(text: str, start: int, end: int, *, rule: str, trusted: bool) -> Iterator[Finding]:
    """Cut a sequence at the first word that is no part of a name; give nothing where that is the first.

    After a title any word may be a name ("Mr. Page"); elsewhere one of the lists must know the first or the second.
    """
    words = list(_WORD.finditer(text, start, end))
    kept = start
    for number, word in enumerate(words):
        lower = _stem(word[0])
        is_joiner = (number > 0 and word[0][0].islower()) or (trusted and number == 0 and lower in _PARTICLES)
        is_initial = len(lower) == 1 and word[0].isupper() and (number > 0 or trusted)
        is_surname = trusted and number < 2 and lower in lexicon.words_of("last")
        if lower in lexicon.STRUCTURE and not (is_joiner or is_initial or is_surname):
            break
        if not trusted and number == 0 and not _begins_a_name(lower, words[1:2]):
            break
        if number > 1 and lower in lexicon.words_of("words") and lower not in lexicon.words_of("last"):
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
    if lower in lexicon.clear_first_names():
        return True
    known = lexicon.names()
    if lower in lexicon.words_of("words"):
        return lower in known and bool(following) and _stem(following[0][0]) in known - lexicon.words_of("words")
    # A word that no list has is more likely a name than not, unless it stands alone.
    return lower in known or (bool(following) and _stem(following[0][0]) not in lexicon.STRUCTURE)


def _stem(word: str) -> str:
    return word.lower().removesuffix("'s").removesuffix("’s")


def _listed_names(text: str) -> Iterator[Finding]:
    first, clear, last = lexicon.first_names(), lexicon.clear_first_names(), lexicon.words_of("last")
    words = lexicon.words_of("words")
    for match in _LISTED_CAPITALS.finditer(text):
        surname, given = match["last"].lower(), match["first"].lower()
        if given in clear and (surname in last or surname in first) and surname not in lexicon.STRUCTURE:
            yield Finding(match.start(), match.end(), "name", "name, last before first")
    for run in _RUN.finditer(text):
        tokens = [word for word in _WORD.finditer(text, run.start(), run.end())]
        yield from _foreign_names(text, tokens)
        number = 0
        while number < len(tokens):
            token = tokens[number]
            lower = _stem(token[0])
            if lower not in first or lower in lexicon.STRUCTURE:
                number += 1
                continue
            is_clear = lower in clear
            stop = number + 1
            while stop < len(tokens) and stop - number < 4 and _may_follow(tokens[stop][0], strict=not is_clear or token[0].isupper()):
                stop += 1
            surname = tokens[stop - 1][0].lower() if stop > number + 1 else ""
            if is_eponym(text, tokens[stop - 1].end(), surname or lower, alone=not surname):
                number = stop
                continue
            known = len(surname) == 1 or surname in last or surname in first
            if (is_clear and (surname or not token[0].isupper() or len(token[0]) > 3)) or (
                surname and known and surname not in words
            ):
                end = tokens[stop - 1].end()
                if len(surname) == 1 and text[end : end + 1] == ".":
                    end += 1
                yield Finding(token.start(), end, "name", "name, listed")
            number = stop


def _series(text: str) -> Iterator[Finding]:
    """Yield the members of an enumeration of which half are known as names: "Romi, Erik and Amy"."""
    for match in _SERIES.finditer(text):
        members = [(word, _stem(word[0])) for word in _CAPITAL.finditer(text, *match.span())]
        known = lexicon.names() - lexicon.plain_words() - lexicon.EPONYMS
        if 2 * sum(stem in known for _, stem in members) >= len(members):
            for word, stem in members:
                if stem not in lexicon.plain_words() and not is_eponym(text, word.end(), stem, alone=False):
                    yield Finding(word.start(), word.end(), "name", "name, in a series")


def _small_names(text: str) -> Iterator[Finding]:
    """Yield given names, with a surname after them, in a text without capitals, as people type and recognisers of speech write."""
    words = list(_SMALL.finditer(text))
    for word, following in zip(words, [*words[1:], None], strict=True):
        if _stem(word[0]) in lexicon.clear_first_names():
            end = word.end()
            if following is not None and following.start() == end + 1:
                surname = _stem(following[0])
                if surname in lexicon.words_of("last") and surname not in lexicon.plain_words():
                    end = following.end()
            yield Finding(word.start(), end, "name", "name, listed, in small letters")


def _foreign_names(text: str, tokens: list[re.Match[str]]) -> Iterator[Finding]:
    """Yield names that no list has whole: with an initial in the middle, a known surname, or foreign letters."""
    stems = [_stem(token[0]) for token in tokens]
    plain = lexicon.plain_words()
    clean = [
        (token, stem)
        for token, stem in zip(tokens, stems, strict=True)
        if stem not in plain or (len(stem) == 1 and token[0].isupper())
    ]
    if len(clean) != len(tokens) or len(tokens) > 4 or all(stem in lexicon.EPONYMS for stem in stems):
        return
    if any(token[0].isupper() and len(token[0]) > 1 for token in tokens):
        return
    end = tokens[-1].end()
    known = stems[0] in lexicon.names() or (stems[-1] in lexicon.names() and len(stems[-1]) > 1)
    foreign = not text.isascii() and not is_spanish(text) and any(not stem.isascii() for stem in stems)
    initialled = len(tokens) == 3 and len(stems[1]) == 1 and len(stems[2]) > 1
    if (
        foreign or (known and (initialled or (len(tokens) > 1 and stems[-1] in lexicon.words_of("last"))))
    ) and not is_eponym(text, end, stems[-1], alone=len(tokens) == 1):
        yield Finding(tokens[0].start(), end, "name", "name, by its form")


def _may_follow(word: str, *, strict: bool) -> bool:
    """Say whether a word may go on a name that a given name has begun."""
    lower = _stem(word)
    if lower in lexicon.STRUCTURE or (len(lower) == 1 and word.islower()):
        return len(lower) == 1 and word.isupper()
    if word.islower():
        return False
    if strict:
        return len(word) == 1 or lower in lexicon.words_of("last")
    return True


def is_eponym(text: str, end: int, lower: str, *, alone: bool) -> bool:
    """Say whether a name stands for a thing of medicine: Hodgkin lymphoma, Parkinson's disease, negative Lachman.

    Args:
        text: Where it stands.
        end: Where it ends.
        lower: The name, or its last word, in small letters.
        alone: It is one word without a given name or a title before it.
    """
    after = _NOUN.match(text, end)
    if after is not None and after[1].lower() in _SURE_NOUNS:
        return True
    # Hyphenated eponyms (Guillain-Barré) count by either half.
    if not any(part in lexicon.EPONYMS for part in (lower, *lower.split("-"))):
        return False
    if after is not None and after[1].lower() in lexicon.EPONYM_NOUNS:
        return True
    return alone and not (after is not None and after[1][0].isupper())
