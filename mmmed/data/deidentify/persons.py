"""Names that are told by what only people do, say and are called, in English.

One word that no list has is a name there; elsewhere it is more often a drug, a product or the first of a sentence.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.eponyms import stem_of
from mmmed.data.deidentify.listed_names import INITIAL, JOINER, SEQUENCE, TOKEN, UPPER
from mmmed.data.deidentify.rules import Window, found_in, joined, places_of, words

RELATIVE_WORDS = (
    "wife husband spouse partner son daughter mother father mom dad brother sister friend neighbor neighbour caregiver"
    " guardian girlfriend boyfriend fiance fiancee fiancé fiancée aunt uncle cousin niece nephew grandson granddaughter"
    " grandmother grandfather kid roommate boss"
)
RELATIVES = rf"(?:{RELATIVE_WORDS.replace(' ', '|')})"

_DEEDS = (
    r"(?:lives? (?:at|in|on|with)|works (?:at|for|in)|was born|began writing|shouted|says|said|whispered"
    r"|told (?:me|us|him|her|them)|had given|just has|is very (?:reliable|kind|friendly|helpful)"
    r"|will be (?:talking|speaking)|is from)"
)
_TRADES = (
    r"(?:[Pp]roducer|[Ss]inger|[Aa]uthor|[Aa]ctor|[Aa]ctress|[Dd]irector|[Pp]resident|[Ss]enator|[Mm]inister"
    r"|[Cc]olleague|[Pp]ainter|[Tt]herapist|[Ss]ocial worker|[Pp]harmacist|[Cc]ase manager|[Ff]ollow(?:ed)?[ -]up with"
    r"|[Mm]eet with|features|featuring|sung by|written by|not by)"
)
_BARE = rf"[{UPPER}][\w-]+"
_WHOLE = rf"{TOKEN}(?:[ \t]+(?:{JOINER}[ \t]+|{INITIAL}[ \t]+)?{TOKEN})"


class Habit(NamedTuple):
    """A pattern whose group `phi` begins with a name, and words without which it need not be tried.

    Args:
        rule: What a redaction says of it.
        words: It begins with one of them, or with `around` has one.
        pattern: With a group `phi`.
        around: How far before and after one of the words it is looked for.
    """

    rule: str
    words: frozenset[str]
    pattern: re.Pattern[str]
    around: tuple[int, int] | None = None


def _habit(rule: str, beginnings: str, pattern: str, *, around: tuple[int, int] | None = None) -> Habit:
    return Habit(rule, words(beginnings), re.compile(pattern), around)


_HABITS = (
    _habit(
        "name, of who speaks",
        "says said replied explained added",
        rf"\b(?:says|said|replied|explained|added)[ \t]+(?P<phi>{TOKEN}(?:[ \t]+{TOKEN})?)"
        r"(?=[.,;:\"]|[ \t]+(?:to|in|of|who|at)\b)",
    ),
    _habit(
        "name, by what is done",
        "live lives works born began shouted says said whispered told given just very will from",
        rf"(?:(?<=[\n.!?>:\"] )|(?<=[\n>\"])|^|\bbut )(?P<phi>{_WHOLE}?)[ \t]+{_DEEDS}\b",
        around=(80, 32),
    ),
    _habit(
        "name, called",
        "named name names call calls called",
        rf"\b(?i:named|names?|call(?:s|ed)?) (?:me|him|her|us|them)[ \t]+(?P<phi>{SEQUENCE})",
    ),
    _habit(
        "name, after a title",
        "dr mr mrs ms",
        rf"\b(?:dr|mr|mrs|ms)\.[ \t]+(?P<phi>{SEQUENCE})",
    ),
    _habit(
        "name, greeted",
        "hi hello hey dear thanks thank",
        rf"(?:(?<=[\n>\"])|^|(?<=[.!?] ))(?:Hi|Hello|Hey|Dear|Thanks|Thank you)[ ,]+(?P<phi>{TOKEN})"
        r"(?=[ \t]*[,!.\n])",
    ),
    _habit(
        "name, of whose kin",
        "s",
        rf"(?P<phi>\b{_BARE})['\u2019]s (?:{RELATIVES}|killers?|birthday|address|song|novel|poem)\b",
        around=(33, 24),
    ),
    _habit(
        "name, of kin",
        "my his her their our",
        rf"\b(?:my|his|her|their|our) {RELATIVES} (?P<phi>{TOKEN})",
    ),
    _habit(
        "name, of a maker",
        "novel poem song",
        rf"\b[Tt]he (?P<phi>{TOKEN}) (?:novel|poem|song)\b",
        around=(41, 8),
    ),
    _habit(
        "name, of who was",
        "ex",
        rf"\b[Ee]x-[^\W\d_]+[ \t]+(?P<phi>{TOKEN}(?:[ \t]+{TOKEN})?)",
    ),
    _habit(
        "name, listed under",
        "under",
        rf"\b(?:it's|is|be|account|booking|reservation) under[ \t]+(?P<phi>{SEQUENCE})",
        around=(25, 80),
    ),
    _habit(
        "name, of who takes part",
        "producer singer author actor actress director president senator minister colleague painter"
        " therapist social pharmacist case follow followed meet features featuring sung written not",
        rf"\b{_TRADES}[ \t]+(?P<phi>{_WHOLE}+)",
    ),
    _habit(
        "name, asked after",
        "why how where when",
        rf"\b(?:Why|How|Where|When) (?:is|was|does|did|has) (?P<phi>{TOKEN})"
        r" (?:so|such|doing|feeling|going|coming)\b",
    ),
    _habit(
        "name, addressed",
        "me us",
        rf"\b(?:me|us),? (?P<phi>{TOKEN})[,!?]",
    ),
    _habit(
        "name, of whom something is",
        "gender identity birthday funeral biography life wife husband daughter son mother father sister brother",
        r"\b(?:gender|identity|birthday|funeral|biography|life|wife|husband|daughter|son|mother|father|sister"
        r"|brother) of "
        rf"(?P<phi>{TOKEN})(?=[.,;?!]| [a-z])",
    ),
    _habit(
        "name, of who is given",
        "given gave sent showed told handed lent",
        rf"\b(?:given|gave|sent|showed|told|handed|lent) (?P<phi>{TOKEN}) (?:his|her|their|my|your|our)\b",
    ),
    _habit(
        "name, asked",
        "please",
        rf"(?:^|(?<=[\n\"])|(?<=[.!?] ))(?P<phi>{TOKEN}), (?:can|could|may|would|will) (?:I|you|we) please\b",
        around=(49, 8),
    ),
)
_ADDRESSED = re.compile(rf",[ \t]+(?P<phi>{TOKEN})[!?](?!\w)")
_OVER_ADDRESS = re.compile(
    rf"^[>? \t]*(?P<phi>{_WHOLE}+)[ \t]*\n(?:[^\n]{{0,60}}\n){{0,2}}[>? \t]*\d+[ \t]+\w",
    re.MULTILINE,
)
_SPEAKER = re.compile(rf"^(?P<phi>{TOKEN}):", re.MULTILINE)
# Who is somebody, and is not named.
_NOBODY = lexicon.words_of("nobody")


class Person(NamedTuple):
    """A stretch that begins with a name, and what told it."""

    start: int
    end: int
    rule: str


def find_persons(text: str) -> Iterator[Person]:
    """Yield stretches of an English text that begin with a name; where it ends is not looked at."""
    for habit in _HABITS:
        places = places_of(habit.words, text)
        for window in _windows(habit, places, len(text)):
            for match in found_in(window, habit.pattern, text, None if habit.around else places):
                first = stem_of(match["phi"].split()[0])
                # A word that is only a word, such as "Back", is no name whatever it does.
                if first not in _NOBODY and (first not in lexicon.words_of("words") or first in lexicon.names()):
                    yield Person(*match.span("phi"), habit.rule)
    addressed = _ADDRESSED.finditer(text) if "!" in text or "?" in text else ()
    for match in addressed:
        if lexicon.plainly(match["phi"].lower()) in lexicon.first_names():
            yield Person(*match.span("phi"), "name, addressed")
    for match in _OVER_ADDRESS.finditer(text):
        if not any(stem_of(word) in lexicon.plain_words() for word in match["phi"].split()):
            yield Person(*match.span("phi"), "name, over an address")


def _windows(habit: Habit, places: Sequence[int], length: int) -> list[Window]:
    if habit.around is None:
        return [Window(0, length)] if places else []
    before, after = habit.around
    return joined(((place, place) for place in places), length, before=before, after=after)


def find_speakers(text: str) -> Iterator[Person]:
    """Yield who speaks in a dialogue of which half the speakers are known."""
    speakers = list(_SPEAKER.finditer(text))
    known = sum(lexicon.plainly(match["phi"].lower()) in lexicon.clear_first_names() for match in speakers)
    if len(speakers) > 1 and 2 * known >= len(speakers):
        for match in speakers:
            if match["phi"].lower() not in _NOBODY:
                yield Person(*match.span("phi"), "name, of a speaker")
