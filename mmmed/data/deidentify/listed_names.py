"""Names that are found by what they are: by lists of names, and by their form. What stands around them is not asked."""

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.entities import Finding
from mmmed.data.deidentify.eponyms import is_eponym, stem_of
from mmmed.data.deidentify.spanish import is_spanish

# The letters and words that all patterns of names are made of.
UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢĪİĶĹĽŁŃŅŇŐŒŔŘŚŞŠŢŤŪŮŰŹŻŽΑ-ΩА-Я"
TOKEN = rf"[{UPPER}][\w'\u2019`-]*"
INITIAL = rf"[{UPPER}]\b\.?"
JOINER = (
    r"(?:de la|de las|de los|de|del|van|van der|van den|von|der|den|la|le|da|dos|das|di|bin|ibn|al|el|y|i|e|ter"
    r"|ten|zu|af)"
)
SEQUENCE = rf"{TOKEN}(?:[ \t]+(?:{JOINER}[ \t]+)?(?:{TOKEN}\.?|{INITIAL})){{0,4}}"
SMALL = re.compile(r"\b[a-zß-öø-ÿ][\w'\u2019-]*")
CAPITAL = re.compile(rf"[{UPPER}](?<!\w.)[\w'\u2019`-]*")
WORD = re.compile(r"[^\W\d_][\w'\u2019`-]*")

_SERIES = re.compile(rf"[{UPPER}](?<!\w.)[\w'\u2019`-]*(?:(?:, {TOKEN})*,? (?:and|y) {TOKEN}|(?:, {TOKEN}){{2,}})")
_RUN = re.compile(rf"[{UPPER}](?<![\w@.].)[\w'\u2019`-]*(?:[ \t]+(?:{JOINER}[ \t]+)?(?:{INITIAL}|{TOKEN}))*")
_LISTED_CAPITALS = re.compile(
    rf"(?P<last>[{UPPER}](?<!\w.)['\u2019\w-]+),[ \t]*(?P<first>[{UPPER}]['\u2019\w-]+)(?:[ \t]+[{UPPER}]\b\.?)?"
)
_SMALL_SERIES = re.compile(r"\b[^\W\d_]+(?:, [^\W\d_]+)+,? and [^\W\d_]+")
_SMALL_INITIAL = re.compile(r" [a-z]\. [^\W\d_][\w-]+")
_ENDINGS = lexicon.in_order("endings")
_SHORTEST_ENDING = min(map(len, _ENDINGS))
_LAST_LETTERS = frozenset(ending[-_SHORTEST_ENDING:] for ending in _ENDINGS)
_NO_SURNAMES = ("lesson", "coarsen", "worsen", "tarceva", "geneva", "whisky", "kiev")


class _Token(NamedTuple):
    """A word of a run, what it is looked up by, and where it stands."""

    word: str
    stem: str
    start: int
    end: int


def find_listed_names(text: str) -> Iterator[Finding]:
    """Yield names that the lists know, whole or in part."""
    yield from _last_before_first(text)
    may_be_foreign = not text.isascii() and not is_spanish(text)
    first = lexicon.first_names()
    for run in _RUN.finditer(text):
        word = run[0]
        several = " " in word or "\t" in word
        if not several and not may_be_foreign and word.isascii():
            # Most runs are one word of the language, and are left here.
            stem = stem_of(word)
            if stem not in first and stem[-_SHORTEST_ENDING:] not in _LAST_LETTERS:
                continue
        stems = list(map(stem_of, WORD.findall(word))) if several else [stem_of(word)]
        by_its_form = several or may_be_foreign
        listed = any(map(_may_be_listed, stems))
        if not listed and not by_its_form:
            continue
        matches = WORD.finditer(text, *run.span())
        tokens = [_Token(one[0], stem, *one.span()) for one, stem in zip(matches, stems, strict=True)]
        if by_its_form:
            yield from _foreign_names(text, tokens, may_be_foreign=may_be_foreign)
        if listed:
            yield from _in_run(text, tokens)
            yield from _by_ending(text, tokens)
    yield from _series(text)
    if text.islower():
        yield from _small_names(text)


def _may_be_listed(stem: str) -> bool:
    first = lexicon.first_names()
    return stem in first or stem[-_SHORTEST_ENDING:] in _LAST_LETTERS or lexicon.plainly(stem) in first


def _last_before_first(text: str) -> Iterator[Finding]:
    first, clear, last = lexicon.first_names(), lexicon.clear_first_names(), lexicon.surnames()
    for match in _LISTED_CAPITALS.finditer(text):
        surname, given = match["last"].lower(), match["first"].lower()
        if given in clear and (surname in last or surname in first) and surname not in lexicon.STRUCTURE:
            yield Finding(match.start(), match.end(), "name", "name, last before first")


def _in_run(text: str, tokens: list[_Token]) -> Iterator[Finding]:
    """Yield given names, with the surnames after them, among words that begin with capitals."""
    first, clear, last = lexicon.first_names(), lexicon.clear_first_names(), lexicon.surnames()
    words = lexicon.words_of("words")
    number = 0
    while number < len(tokens):
        token = tokens[number]
        lower = token.stem
        bare = lexicon.plainly(lower)
        if (lower not in first and bare not in first) or lower in lexicon.STRUCTURE:
            number += 1
            continue
        is_clear = lower in clear or bare in clear
        stop = number + 1
        while (
            stop < len(tokens)
            and stop - number < 4
            and _may_follow(tokens[stop].word, strict=not is_clear or token.word.isupper())
        ):
            stop += 1
        surname = tokens[stop - 1].word.lower() if stop > number + 1 else ""
        if is_eponym(text, tokens[stop - 1].end, surname or lower, alone=not surname):
            number = stop
            continue
        known = len(surname) == 1 or lexicon.plainly(surname) in last or surname in first
        if (is_clear and (surname or not token.word.isupper() or len(token.word) > 3)) or (
            surname and known and surname not in words
        ):
            end = tokens[stop - 1].end
            if len(surname) == 1 and text[end : end + 1] == ".":
                end += 1
            yield Finding(token.start, end, "name", "name, listed")
        number = stop


def _foreign_names(text: str, tokens: list[_Token], *, may_be_foreign: bool) -> Iterator[Finding]:
    """Yield names that no list has whole: with an initial in the middle, a known surname, or foreign letters."""
    plain = lexicon.plain_words()
    if len(tokens) > 4 or any(
        token.stem in plain and not (len(token.stem) == 1 and token.word.isupper()) for token in tokens
    ):
        return
    stems = [token.stem for token in tokens]
    if all(stem in lexicon.EPONYMS for stem in stems):
        return
    if any(token.word.isupper() and len(token.word) > 1 for token in tokens):
        return
    end = tokens[-1].end
    known = stems[0] in lexicon.names() or (stems[-1] in lexicon.names() and len(stems[-1]) > 1)
    foreign = may_be_foreign and any(not stem.isascii() for stem in stems)
    initialled = len(tokens) == 3 and len(stems[1]) == 1 and len(stems[2]) > 1
    # "Faina D. Yefremova", but not "Hepatitis B. Patient" or "Factor V Leiden".
    dotted = (
        initialled
        and text[tokens[1].end : tokens[1].end + 1] == "."
        and min(map(len, (stems[0], stems[2]))) > 2
        and stems[0] not in lexicon.words_of("lettered")
    )
    if (
        foreign
        or dotted
        or (known and (initialled or (len(tokens) > 1 and lexicon.plainly(stems[-1]) in lexicon.surnames())))
    ) and not is_eponym(text, end, stems[-1], alone=len(tokens) == 1):
        yield Finding(tokens[0].start, end, "name", "name, by its form")


def _by_ending(text: str, tokens: list[_Token]) -> Iterator[Finding]:
    """Yield surnames that only a surname's ending tells, with the names before them: "Ushurma Dratchev"."""
    for number, token in enumerate(tokens):
        stem = token.stem
        if len(stem) < 6 or not stem.endswith(_ENDINGS) or stem in _NO_SURNAMES or token.word.isupper():
            continue
        if stem in lexicon.plain_words() or is_eponym(text, token.end, stem, alone=number == 0):
            continue
        first = number
        while first > 0 and number - first < 2 and not _is_plain(tokens[first - 1]):
            first -= 1
        yield Finding(tokens[first].start, token.end, "name", "name, by its ending")


def _is_plain(token: _Token) -> bool:
    return len(token.word) > 1 and (token.stem in lexicon.plain_words() or token.word.islower())


def _series(text: str) -> Iterator[Finding]:
    """Yield the members of an enumeration of which half are known as names: "Romi, Erik and Amy"."""
    may_be_foreign = not text.isascii() and not is_spanish(text)
    for match in _SERIES.finditer(text):
        members = [(word, stem_of(word[0])) for word in CAPITAL.finditer(text, *match.span())]
        clear, known = lexicon.clear_names(), lexicon.names()
        sure = sum(stem in clear or (may_be_foreign and not stem.isascii()) for _, stem in members)
        # Names of which eponyms were made, and names that are words, count beside one that is sure, among three.
        doubtful = sum(stem in known and stem not in lexicon.STRUCTURE for _, stem in members) if sure else 0
        in_company = len(members) > 2 and doubtful + 1 >= len(members)
        if 2 * sure >= len(members) or in_company:
            for word, stem in members:
                taken = stem not in lexicon.plain_words() or (stem in known and stem not in lexicon.STRUCTURE)
                if taken and not is_eponym(text, word.end(), stem, alone=False):
                    yield Finding(word.start(), word.end(), "name", "name, in a series")


def _small_names(text: str) -> Iterator[Finding]:
    """Yield given names, with a surname after them, in a text without capitals, as people type or dictate."""
    for series in _SMALL_SERIES.finditer(text):
        members = [
            (word, lexicon.plainly(word[0])) for word in SMALL.finditer(text, *series.span()) if word[0] != "and"
        ]
        if 2 * sum(stem in lexicon.clear_first_names() for _, stem in members) > len(members):
            yield from (Finding(word.start(), word.end(), "name", "name, in a series") for word, _ in members)
    words = list(SMALL.finditer(text))
    for word, following in zip_longest(words, words[1:]):
        if lexicon.plainly(stem_of(word[0])) in lexicon.clear_first_names():
            end = word.end()
            middle = _SMALL_INITIAL.match(text, end)
            if middle is not None:
                end = middle.end()
            elif following is not None and following.start() == end + 1:
                surname = lexicon.plainly(stem_of(following[0]))
                if surname in lexicon.surnames() and surname not in lexicon.plain_words():
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
        return len(word) == 1 or lexicon.plainly(lower) in lexicon.surnames()
    return True
