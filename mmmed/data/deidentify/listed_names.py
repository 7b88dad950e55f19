"""Names that are found by what they are: by lists of names, and by their form. What stands around them is not asked."""

import re
from collections.abc import Iterator
from itertools import zip_longest

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.entities import Finding
from mmmed.data.deidentify.eponyms import is_eponym, stem_of
from mmmed.data.deidentify.spanish import is_spanish

# The letters and words that all patterns of names are made of.
UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢĪİĶĹĽŁŃŅŇŐŒŔŘŚŞŠŢŤŪŮŰŹŻŽΑ-ΩА-Я"
TOKEN = rf"[{UPPER}][\w'\u2019`-]*"
INITIAL = rf"[{UPPER}]\b\.?"
JOINER = (
    r"(?:de la|de las|de los|de|del|van|van der|van den|von|der|den|la|le|da|dos|das|di|bin|ibn|al|el|y|i|e|ter|zu|af)"
)
SMALL = re.compile(r"\b[a-zß-öø-ÿ][\w'\u2019-]*")
CAPITAL = re.compile(rf"[{UPPER}](?<!\w.)[\w'\u2019`-]*")
WORD = re.compile(r"[^\W\d_][\w'\u2019`-]*")

_SERIES = re.compile(rf"{TOKEN}(?:, {TOKEN})*,? (?:and|y) {TOKEN}|{TOKEN}(?:, {TOKEN}){{2,}}")
_RUN = re.compile(rf"[{UPPER}](?<![\w@.].)[\w'\u2019`-]*(?:[ \t]+(?:{JOINER}[ \t]+)?(?:{INITIAL}|{TOKEN}))*")
_LISTED_CAPITALS = re.compile(
    rf"(?P<last>[{UPPER}](?<!\w.)['\u2019\w-]+),[ \t]*(?P<first>[{UPPER}]['\u2019\w-]+)(?:[ \t]+[{UPPER}]\b\.?)?"
)


def find_listed_names(text: str) -> Iterator[Finding]:
    """Yield names that the lists know, whole or in part."""
    yield from _last_before_first(text)
    for run in _RUN.finditer(text):
        tokens = list(WORD.finditer(text, *run.span()))
        yield from _foreign_names(text, tokens)
        yield from _in_run(text, tokens)
    yield from _series(text)
    if text.islower():
        yield from _small_names(text)


def _last_before_first(text: str) -> Iterator[Finding]:
    first, clear, last = lexicon.first_names(), lexicon.clear_first_names(), lexicon.words_of("last")
    for match in _LISTED_CAPITALS.finditer(text):
        surname, given = match["last"].lower(), match["first"].lower()
        if given in clear and (surname in last or surname in first) and surname not in lexicon.STRUCTURE:
            yield Finding(match.start(), match.end(), "name", "name, last before first")


def _in_run(text: str, tokens: list[re.Match[str]]) -> Iterator[Finding]:
    """Yield given names, with the surnames after them, among words that begin with capitals."""
    first, clear, last = lexicon.first_names(), lexicon.clear_first_names(), lexicon.words_of("last")
    words = lexicon.words_of("words")
    number = 0
    while number < len(tokens):
        token = tokens[number]
        lower = stem_of(token[0])
        if lower not in first or lower in lexicon.STRUCTURE:
            number += 1
            continue
        is_clear = lower in clear
        stop = number + 1
        while (
            stop < len(tokens)
            and stop - number < 4
            and _may_follow(tokens[stop][0], strict=not is_clear or token[0].isupper())
        ):
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


def _foreign_names(text: str, tokens: list[re.Match[str]]) -> Iterator[Finding]:
    """Yield names that no list has whole: with an initial in the middle, a known surname, or foreign letters."""
    stems = [stem_of(token[0]) for token in tokens]
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
    # "Faina D. Yefremova", but not "Hepatitis B. Patient" or "Factor V Leiden".
    dotted = (
        initialled
        and text[tokens[1].end() : tokens[1].end() + 1] == "."
        and min(map(len, (stems[0], stems[2]))) > 2
        and stems[0] not in lexicon.words_of("lettered")
    )
    if (
        foreign or dotted or (known and (initialled or (len(tokens) > 1 and stems[-1] in lexicon.words_of("last"))))
    ) and not is_eponym(text, end, stems[-1], alone=len(tokens) == 1):
        yield Finding(tokens[0].start(), end, "name", "name, by its form")


def _series(text: str) -> Iterator[Finding]:
    """Yield the members of an enumeration of which half are known as names: "Romi, Erik and Amy"."""
    for match in _SERIES.finditer(text):
        members = [(word, stem_of(word[0])) for word in CAPITAL.finditer(text, *match.span())]
        known = lexicon.clear_names()
        if 2 * sum(stem in known for _, stem in members) >= len(members):
            for word, stem in members:
                if stem not in lexicon.plain_words() and not is_eponym(text, word.end(), stem, alone=False):
                    yield Finding(word.start(), word.end(), "name", "name, in a series")


def _small_names(text: str) -> Iterator[Finding]:
    """Yield given names, with a surname after them, in a text without capitals, as people type or dictate."""
    words = list(SMALL.finditer(text))
    for word, following in zip_longest(words, words[1:]):
        if stem_of(word[0]) in lexicon.clear_first_names():
            end = word.end()
            if following is not None and following.start() == end + 1:
                surname = stem_of(following[0])
                if surname in lexicon.words_of("last") and surname not in lexicon.plain_words():
                    end = following.end()
            yield Finding(word.start(), end, "name", "name, listed, in small letters")


def _may_follow(word: str, *, strict: bool) -> bool:
    """Say whether a word may go on a name that a given name has begun."""
    lower = stem_of(word)
    if lower in lexicon.STRUCTURE or (len(lower) == 1 and word.islower()):
        return len(lower) == 1 and word.isupper()
    if word.islower():
        return False
    if strict:
        return len(word) == 1 or lower in lexicon.words_of("last")
    return True
