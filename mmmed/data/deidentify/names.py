"""Names of people: by what stands around them, and by lists of names. No model is needed.

A name that is found once is looked for in the rest of the text by `repeated`.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.entities import Finding

_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢĪİĶĹĽŁŃŅŇŐŒŔŘŚŞŠŢŤŪŮŰŹŻŽΑ-ΩА-Я"
_TOKEN = rf"[{_UPPER}][\w'’`-]*"
_INITIAL = rf"[{_UPPER}]\b\.?"
_JOINER = r"(?:de|del|de la|de los|van|van der|van den|von|der|den|la|le|da|dos|das|di|bin|ibn|al|el|y|i|e|ter|zu|af)"
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

_AROUND = {
    "name, after a title": re.compile(rf"\b{_TITLES}\b\.?[ \t]+(?P<phi>{_SEQUENCE})"),
    "name, labelled": re.compile(
        rf"\b(?:(?i:patient(?:'s)?(?: full)? name|patient|pt|name|client|first name|last name|surname|full name|physician"
        rf"|provider|attending(?: md| physician)?|surgeon|radiologist|referring(?: physician)?|pcp|doctor|nurse|contact"
        rf"|emergency contact|next of kin|nok|guarantor|subscriber|insured|employer|cc|attn|from|to|author|dictator"
        rf"|transcriptionist|interpreter|technologist|resident|fellow|consultant|nombre|apellidos?|m[ée]dico|autor"
        rf"|responsable(?: cl[ií]nico)?|remitido por))[ \t]*[:=][ \t]*(?:{_SPANISH_TITLES}\.?[ \t]+|{_TITLES}\.?[ \t]+)?(?P<phi>{_LISTED})"
    ),
    "name, signed by": re.compile(
        rf"\b(?i:(?:electronically |digitally )?(?:signed|dictated|transcribed|reviewed|read|reported|interpreted|verified"
        rf"|approved|authenticated|performed|authored|attended|referred|seen|evaluated|prepared|entered|ordered|cosigned"
        rf"|examined|remitido|firmado)(?: and \w+)?(?: electronically)? (?:by|por)|signature|/s/|e-signed)[ \t]*:?[ \t]*"
        rf"(?:{_SPANISH_TITLES}\.?[ \t]+|{_TITLES}\.?[ \t]+)?(?P<phi>{_LISTED})"
    ),
    "name, with a degree": re.compile(rf"(?P<phi>\b{_TOKEN}(?:[ \t]+(?:{_TOKEN}|{_INITIAL})){{1,3}}),?[ \t]+{_DEGREES}(?!\w)"),
    "name, introduced": re.compile(
        rf"\b(?:(?i:my name is|name is|name's|named|called|known as|i am|i'm|this is|goes by|nicknamed|se llama|me llamo"
        rf"|under the name|for (?:mr|ms|mrs)\.?)|[Pp]atient(?:'s name is)?|pt)[ \t]+(?P<phi>{_SEQUENCE})"
    ),
    "name, of a relative": re.compile(rf"\b{_RELATIVES}(?:,| is| named|'s name is)?[ \t]+(?P<phi>{_TOKEN}(?:[ \t]+{_TOKEN})?)"),
}
_SPANISH = {
    "name, after a Spanish title": re.compile(rf"\b{_SPANISH_TITLES}(?:\.|(?<=[aª])\b)[ \t]*(?P<phi>{_SEQUENCE})"),
}
_RUN = re.compile(rf"(?<![\w@.]){_TOKEN}(?:[ \t]+(?:{_JOINER}[ \t]+)?(?:{_TOKEN}|{_INITIAL}))*")
_WORD = re.compile(r"[^\W\d_][\w'’`-]*")
_LISTED_CAPITALS = re.compile(rf"\b(?P<last>[{_UPPER}]['’\w-]+),[ \t]*(?P<first>[{_UPPER}]['’\w-]+)(?:[ \t]+[{_UPPER}]\b\.?)?")
_NOUN = re.compile(r"(?:['’]s)?[ \t]+([^\W\d_]+)")
_SURE_NOUNS = ("disease", "syndrome", "sign", "tumor", "tumour", "lymphoma", "palsy", "phenomenon")
_SPANISH_WORDS = re.compile(r"\b(?:el|la|los|las|que|con|por|del|una|paciente|años|se)\b", re.IGNORECASE)
_LOOKS_SPANISH = 0.06


def is_spanish(text: str) -> bool:
    """Say whether a text is more likely Spanish than English, by its smallest words."""
    words = text.count(" ") + 1
    return len(_SPANISH_WORDS.findall(text, 0, 4000)) > _LOOKS_SPANISH * min(words, 700) + 1


def find_names(text: str) -> Iterator[Finding]:
    """Yield names by their surroundings and by the lists."""
    patterns = _AROUND | (_SPANISH if is_spanish(text) else {})
    for name, pattern in patterns.items():
        for match in pattern.finditer(text):
            trusted = name in ("name, after a title", "name, after a Spanish title", "name, with a degree")
            yield from _trimmed(text, *match.span("phi"), rule=name, trusted=trusted)
    yield from _listed_names(text)


def repeated(text: str, names: Iterable[Finding], *, listed: str = "") -> Iterator[Finding]:
    """Yield further places where a part of a found name stands, unless it is written in small letters.

    Args:
        text: Where to look.
        names: Found names.
        listed: The text they were found in, where that is another one.
    """
    parts = name_parts(listed or text, names)
    if not parts:
        return
    pattern = _any_of(tuple(sorted(parts, key=lambda part: (-len(part), part))))
    for match in pattern.finditer(text):
        if match[0][0].isupper() and not is_eponym(text, match.end(), match[0].lower(), alone=False):
            yield Finding(match.start(), match.end(), "name", "name, found elsewhere")


def name_parts(text: str, names: Iterable[Finding]) -> set[str]:
    """The words of found names that are worth looking for: no initials, no titles, no words of headings."""
    parts = {
        word[0].lower()
        for one in names
        for word in _WORD.finditer(text[one.start : one.end])
        if len(word[0]) > 2 and word[0].lower() not in lexicon.STRUCTURE and word[0][0].isupper()
    }
    return {part.removesuffix("'s").removesuffix("’s") for part in parts}


@cache
def _any_of(parts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, parts))})\b", re.IGNORECASE)


def _trimmed(text: str, start: int, end: int, *, rule: str, trusted: bool) -> Iterator[Finding]:
    """Cut a sequence at the first word that is no part of a name; give nothing where that is the first."""
    kept = start
    for number, word in enumerate(_WORD.finditer(text, start, end)):
        lower = word[0].lower().removesuffix("'s").removesuffix("’s")
        is_joiner = word[0][0].islower() and number > 0
        if lower in lexicon.STRUCTURE and not is_joiner:
            break
        # "Patient: Reports …" is no name; "Mr. Page" is one.
        if _is_plain_word(lower) and not (trusted and number < 2) and lower not in lexicon.first_names():
            break
        if not trusted and number == 0 and _is_plain_word(lower) and not _followed_by_name(text, word.end()):
            break
        if is_eponym(text, word.end(), lower, alone=False) and not trusted:
            break
        if not is_joiner:
            kept = word.end()
    if kept > start:
        if text[kept : kept + 1] == "." and kept - 2 >= start and not text[kept - 2].isalnum():
            kept += 1
        yield Finding(start, kept, "name", rule)


def _listed_names(text: str) -> Iterator[Finding]:
    first, clear, last = lexicon.first_names(), lexicon.clear_first_names(), lexicon.words_of("last")
    words = lexicon.words_of("words")
    for match in _LISTED_CAPITALS.finditer(text):
        surname, given = match["last"].lower(), match["first"].lower()
        if given in clear and (surname in last or surname in first) and surname not in lexicon.STRUCTURE:
            yield Finding(match.start(), match.end(), "name", "name, last before first")
    for run in _RUN.finditer(text):
        tokens = [word for word in _WORD.finditer(text, run.start(), run.end())]
        number = 0
        while number < len(tokens):
            token = tokens[number]
            lower = token[0].lower().removesuffix("'s").removesuffix("’s")
            if lower not in first or lower in lexicon.STRUCTURE:
                number += 1
                continue
            is_clear = lower in clear
            stop = number + 1
            while stop < len(tokens) and stop - number < 4 and _may_follow(tokens[stop][0], strict=not is_clear):
                stop += 1
            surname = tokens[stop - 1][0].lower() if stop > number + 1 else ""
            if is_eponym(text, tokens[stop - 1].end(), surname or lower, alone=not surname):
                number = stop
                continue
            known = len(surname) == 1 or surname in last or surname in first
            if (is_clear and (surname or not token[0].isupper() or len(token[0]) > 3)) or (surname and known and surname not in words):
                end = tokens[stop - 1].end()
                if len(surname) == 1 and text[end : end + 1] == ".":
                    end += 1
                yield Finding(token.start(), end, "name", "name, listed")
            number = stop


def _may_follow(word: str, *, strict: bool) -> bool:
    """Say whether a word may go on a name that a given name has begun."""
    lower = word.lower().removesuffix("'s").removesuffix("’s")
    if lower in lexicon.STRUCTURE or len(lower) == 1 and word.islower():
        return len(lower) == 1 and word.isupper()
    if word.islower():
        return False
    if strict:
        return len(word) == 1 or lower in lexicon.words_of("last")
    return True


def _followed_by_name(text: str, place: int) -> bool:
    after = re.match(rf"[ \t]+({_TOKEN})", text[place : place + 40])
    return after is not None and after[1].lower() in lexicon.words_of("last") | lexicon.first_names()


def _is_plain_word(lower: str) -> bool:
    return lower in lexicon.words_of("words")


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
