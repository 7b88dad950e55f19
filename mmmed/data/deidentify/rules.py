"""A rule is a pattern with a name, so that every redaction can say what made it."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, islice
from typing import NamedTuple

from mmmed.data.deidentify.entities import Finding, Kind


class Rule(NamedTuple):
    """A pattern whose group `phi` is an identifier, and what it need not be tried without.

    Args:
        name: What a redaction says of it.
        kind: What it finds.
        pattern: With a group `phi`.
        needs: Small letters of which it needs some; none where it may do without.
        begins: Words that it begins with, small; none where it may begin with others.
    """

    name: str
    kind: Kind
    pattern: re.Pattern[str]
    needs: frozenset[str]
    begins: frozenset[str]


class Window(NamedTuple):
    """A stretch of a text."""

    start: int
    end: int


def rule(name: str, kind: Kind, pattern: str, *, flags: int = re.IGNORECASE, needs: str = "", begins: str = "") -> Rule:
    """Compile a rule."""
    return Rule(name, kind, re.compile(pattern, flags), words(needs), words(begins))


def words(listed: str) -> frozenset[str]:
    """The words of a list in one line."""
    return frozenset(listed.split())


def apply(rules: Iterable[Rule], text: str, windows: Iterable[Window] | None = None) -> Iterator[Finding]:
    """Yield what the rules find, in the whole text or in some stretches of it."""
    stretches = [Window(0, len(text))] if windows is None else list(windows)
    lowered = text.lower() if stretches else ""
    for one in rules:
        if one.needs and not any(letters in lowered for letters in one.needs):
            continue
        places = places_of(one.begins, text) if one.begins else None
        for window in stretches:
            for match in found_in(window, one.pattern, text, places):
                start, end = match.span("phi")
                if end > start:
                    yield Finding(start, end, one.kind, one.name)


def found_in(
    window: Window, pattern: re.Pattern[str], text: str, places: Sequence[int] | None = None
) -> Iterator[re.Match[str]]:
    """What a pattern finds in a stretch; one that only begins at some places is tried nowhere else."""
    if places is None:
        return pattern.finditer(text, *window)
    return _beginning_at(
        places[bisect_left(places, window.start) : bisect_left(places, window.end)], pattern, text, window
    )


def _beginning_at(
    places: Sequence[int], pattern: re.Pattern[str], text: str, window: Window
) -> Iterator[re.Match[str]]:
    done = window.start
    for place in places:
        if place >= done and (match := pattern.match(text, place, window.end)) is not None:
            done = match.end()
            yield match


_WORDS_APART = re.compile(r"(\W+)")
# The same for most texts, several times faster: small letters, and a blank for whatever is part of no word.
_APART = str.maketrans(
    {
        character: character.lower() if character.isalnum() or character == "_" else " "
        for character in map(chr, range(128))
    }
)


@lru_cache(maxsize=8)
def words_at(text: str) -> Mapping[str, Sequence[int]]:
    """Where each word of a text stands, in small letters.

    Some hundred patterns begin with one of a few words. Looking these up, after the text was read once, takes a small
    part of the time of searching it for every pattern.
    """
    if text.isascii():
        parts = text.translate(_APART).split(" ")
        return _places(parts, accumulate((len(part) + 1 for part in parts), initial=0))
    lowered = text.lower()
    # A few capitals are longer in small letters; then places do not agree, and words are lowered one by one.
    if len(lowered) == len(text):
        parts = _WORDS_APART.split(lowered)
        return _places(parts[::2], islice(accumulate(map(len, parts), initial=0), 0, None, 2))
    parts = _WORDS_APART.split(text)
    return _places([part.lower() for part in parts[::2]], islice(accumulate(map(len, parts), initial=0), 0, None, 2))


def _places(words: Iterable[str], starts: Iterable[int]) -> Mapping[str, Sequence[int]]:
    places: dict[str, list[int]] = defaultdict(list)
    for word, start in zip(words, starts, strict=False):
        places[word].append(start)
    return places


def places_of(words: frozenset[str], text: str) -> list[int]:
    """Where any of some words stands, in order."""
    known = words_at(text)
    return sorted(place for word in words & known.keys() for place in known[word])


def around(pattern: re.Pattern[str], text: str, *, before: int, after: int) -> list[Window]:
    """Stretches about every place where a pattern is found, those that touch joined.

    Searching all of a note for a dozen patterns takes most of the time; what they need is in few places.
    """
    return joined((match.span() for match in pattern.finditer(text)), len(text), before=before, after=after)


def near(words: Iterable[str], text: str, *, before: int, after: int) -> list[Window]:
    """Stretches about every place where one of some words stands: many times faster than a pattern of them all."""
    places: list[int] = []
    for word in words:
        place = text.find(word)
        while place >= 0:
            places.append(place)
            place = text.find(word, place + 1)
    return joined(((place, place) for place in sorted(places)), len(text), before=before, after=after)


def joined(spans: Iterable[tuple[int, int]], length: int, *, before: int, after: int) -> list[Window]:
    """Widen spans that are in order, within a text of some length, and join those that touch."""
    windows: list[Window] = []
    opened = closed = -1
    for first, last in spans:
        start, end = max(0, first - before), min(length, last + after)
        if opened >= 0 and start <= closed:
            closed = max(closed, end)
            continue
        if opened >= 0:
            windows.append(Window(opened, closed))
        opened, closed = start, end
    if opened >= 0:
        windows.append(Window(opened, closed))
    return windows


_VALUE_AFTER_LABEL = re.compile(r"[:=][ \t]*(?=[^\s:=])")
_ENDS_LABEL = re.compile(r"[\n:=.;,()]")
_LETTER = re.compile(r"[^\W\d_]")


class Labelled(NamedTuple):
    """The place of a value after a colon, and the words before it in small letters."""

    label: str
    start: int


@lru_cache(maxsize=8)
def labelled(text: str) -> tuple[Labelled, ...]:
    """Where a form gives values: ``Home phone: …``."""
    return tuple(_labelled(text))


def _labelled(text: str) -> Iterator[Labelled]:
    for match in _VALUE_AFTER_LABEL.finditer(text):
        before = _ENDS_LABEL.split(text[max(0, match.start() - 40) : match.start()])[-1]
        first = _LETTER.search(before)
        if first is not None:
            yield Labelled(before[first.start() :].strip().lower(), match.end())
