"""Word lists: what may be a name, what is a word all the same, and what is an eponym of medicine.

female.txt, male.txt and last.txt are the names of the United States census of 1990, most frequent first (of the
surnames, the first 12,000). given_world.txt and last_world.txt are names of other countries without their accents: the
name lists of Faker and mimesis (both MIT), and of nomquamgender (MIT) what at least five of its sources have, less
every word of WordNet and of the English and Spanish frequencies of spacy-lookups-data (MIT) that is more often written
small, less brands of drugs, eponyms and towns. words.txt says which of them are also words, and short.txt which given
names are too short to stand for a person alone; nobody.txt holds who speaks and acts without a name, lettered.txt words
that a single letter follows, as in hepatitis B, endings.txt how Nordic, Finnish, Slavic, Romanian, Greek and Georgian
surnames end. Words are in lower case; streets.txt and towns.txt hold names as they
are written, one in a line.
"""

import re
import unicodedata
from functools import cache
from importlib.resources import files


@cache
def words_of(name: str) -> frozenset[str]:
    """Read one list."""
    return frozenset(in_order(name))


@cache
def alternatives(name: str) -> str:
    """Read a list with one name in a line as part of a pattern, the longest first."""
    return "|".join(re.escape(line) for line in sorted(_text(name).splitlines(), key=lambda line: (-len(line), line)))


@cache
def in_order(name: str) -> tuple[str, ...]:
    """Read one list, most frequent first."""
    return tuple(_text(name).split())


def _text(name: str) -> str:
    return (files("mmmed.data.deidentify") / "lexicon" / f"{name}.txt").read_text(encoding="utf-8")


@cache
def first_names() -> frozenset[str]:
    """Given names of either sex."""
    return words_of("female") | words_of("male") | words_of("given_world")


@cache
def surnames() -> frozenset[str]:
    """Surnames of this and other countries."""
    return words_of("last") | words_of("last_world")


_STROKES = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "\u0131": "i", "þ": "th", "æ": "ae", "œ": "oe", "ß": "ss"}
)


def plainly(word: str) -> str:
    """A word in small letters without its accents, as the lists of other countries have it."""
    if word.isascii():
        return word
    bare = unicodedata.normalize("NFKD", word.translate(_STROKES))
    return "".join(character for character in bare if not unicodedata.combining(character))


@cache
def names() -> frozenset[str]:
    """Given names and surnames."""
    return first_names() | surnames()


@cache
def plain_words() -> frozenset[str]:
    """Names that are words, and the words of headings."""
    return words_of("words") | STRUCTURE


@cache
def clear_names() -> frozenset[str]:
    """Names that are no word and no eponym."""
    return names() - plain_words() - EPONYMS


@cache
def clear_first_names() -> frozenset[str]:
    """Given names that are no word, no eponym and no part of one, so that they stand for a person even alone."""
    return first_names() - words_of("words") - STRUCTURE - EPONYMS - words_of("short")


EPONYMS = words_of("eponyms")
"""People after whom something in medicine is named; a few are common surnames, which then need a better reason."""

EPONYM_NOUNS = words_of("eponym_nouns")
"""What follows an eponym."""

STRUCTURE = words_of("structure")
"""Words of headings and forms that begin with a capital and are no part of a name."""
