"""Names that are told by what only people do, say and are called, in English.

One word that no list has is a name there; elsewhere it is more often a drug, a product or the first of a sentence.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from mmmed.data.deidentify import lexicon
from mmmed.data.deidentify.eponyms import stem_of
from mmmed.data.deidentify.listed_names import INITIAL, JOINER, SEQUENCE, TOKEN, UPPER
from mmmed.data.deidentify.rules import near

RELATIVES = (
    r"(?:wife|husband|spouse|partner|son|daughter|mother|father|mom|dad|brother|sister|friend|neighbou?r|caregiver"
    r"|guardian|girlfriend|boyfriend|fianc[ée]e?|aunt|uncle|cousin|niece|nephew|grandson|granddaughter"
    r"|grandmother|grandfather|kid|roommate|boss)"
)

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
    """A pattern whose group `phi` begins with a name, words without which it need not be tried, and how near them."""

    rule: str
    words: tuple[str, ...]
    before: int
    after: int
    pattern: re.Pattern[str]


_HABITS = (
    Habit(
        "name, of who speaks",
        ("says", "said", "replied", "explained", "added"),
        1,
        80,
        re.compile(
            rf"\b(?:says|said|replied|explained|added)[ \t]+(?P<phi>{TOKEN}(?:[ \t]+{TOKEN})?)"
            r"(?=[.,;:\"]|[ \t]+(?:to|in|of|who|at)\b)"
        ),
    ),
    Habit(
        "name, by what is done",
        (
            " live",
            " works ",
            " was born",
            " began writing",
            " sh",
            " sa",
            " whispered",
            " told ",
            " had given",
            " just has",
            " is very ",
            " will be ",
            " is from",
        ),
        72,
        24,
        re.compile(
            rf"(?:(?<=[\n.!?>:\"] )|(?<=[\n>\"])|^|\bbut )(?P<phi>{_WHOLE}?)[ \t]+{_DEEDS}\b",
        ),
    ),
    Habit(
        "name, called",
        (" me ", " him ", " her ", " us ", " them "),
        10,
        96,
        re.compile(rf"\b(?i:named|names?|call(?:s|ed)?) (?:me|him|her|us|them)[ \t]+(?P<phi>{SEQUENCE})"),
    ),
    Habit(
        "name, after a title",
        ("dr. ", "mr. ", "mrs. ", "ms. "),
        1,
        96,
        re.compile(rf"\b(?:dr|mr|mrs|ms)\.[ \t]+(?P<phi>{SEQUENCE})"),
    ),
    Habit(
        "name, greeted",
        ("Hi", "Hello", "Hey", "Dear", "Thank"),
        1,
        80,
        re.compile(
            rf"(?:(?<=[\n>\"])|^|(?<=[.!?] ))(?:Hi|Hello|Hey|Dear|Thanks|Thank you)[ ,]+(?P<phi>{TOKEN})"
            r"(?=[ \t]*[,!.\n])"
        ),
    ),
    Habit(
        "name, of whose kin",
        ("'s ", "\u2019s "),
        32,
        24,
        re.compile(
            rf"(?P<phi>\b{_BARE})['\u2019]s (?:{RELATIVES}|killers?|birthday|address|song|novel|poem)\b",
        ),
    ),
    Habit(
        "name, of kin",
        ("my ", "his ", "her ", "their ", "our "),
        1,
        64,
        re.compile(rf"\b(?:my|his|her|their|our) {RELATIVES} (?P<phi>{TOKEN})"),
    ),
    Habit(
        "name, of a maker",
        (" novel", " poem", " song"),
        40,
        8,
        re.compile(rf"\b[Tt]he (?P<phi>{TOKEN}) (?:novel|poem|song)\b"),
    ),
    Habit(
        "name, of who was",
        ("ex-", "Ex-"),
        1,
        64,
        re.compile(rf"\b[Ee]x-[^\W\d_]+[ \t]+(?P<phi>{TOKEN}(?:[ \t]+{TOKEN})?)"),
    ),
    Habit(
        "name, listed under",
        (" under ",),
        24,
        80,
        re.compile(rf"\b(?:it's|is|be|account|booking|reservation) under[ \t]+(?P<phi>{SEQUENCE})"),
    ),
    Habit(
        "name, of who takes part",
        (
            "roducer",
            "inger",
            "uthor",
            "ctor",
            "ctress",
            "resident",
            "enator",
            "inister",
            "olleague",
            "ainter",
            "herapist",
            "ocial worker",
            "harmacist",
            "ase manager",
            " up with",
            "eet with",
            "featur",
            " by ",
        ),
        20,
        96,
        re.compile(rf"\b{_TRADES}[ \t]+(?P<phi>{_WHOLE}+)"),
    ),
    Habit(
        "name, asked after",
        ("Why ", "How ", "Where ", "When "),
        1,
        64,
        re.compile(
            rf"\b(?:Why|How|Where|When) (?:is|was|does|did|has) (?P<phi>{TOKEN})"
            r" (?:so|such|doing|feeling|going|coming)\b"
        ),
    ),
    Habit(
        "name, addressed",
        (" me ", " us ", " me, ", " us, "),
        1,
        64,
        re.compile(rf"\b(?:me|us),? (?P<phi>{TOKEN})[,!?]"),
    ),
    Habit(
        "name, of whom something is",
        (" of ",),
        12,
        64,
        re.compile(
            r"\b(?:gender|identity|birthday|funeral|biography|life|wife|husband|daughter|son|mother|father|sister"
            r"|brother) of "
            rf"(?P<phi>{TOKEN})(?=[.,;?!]| [a-z])"
        ),
    ),
    Habit(
        "name, of who is given",
        (" given ", " gave ", " sent ", " showed ", " told ", " handed ", " lent "),
        1,
        64,
        re.compile(rf"\b(?:given|gave|sent|showed|told|handed|lent) (?P<phi>{TOKEN}) (?:his|her|their|my|your|our)\b"),
    ),
    Habit(
        "name, asked",
        (" please",),
        48,
        8,
        re.compile(
            rf"(?:^|(?<=[\n\"])|(?<=[.!?] ))(?P<phi>{TOKEN}), (?:can|could|may|would|will) (?:I|you|we) please\b"
        ),
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
        for window in near(habit.words, text, before=habit.before, after=habit.after):
            for match in habit.pattern.finditer(text, *window):
                first = stem_of(match["phi"].split()[0])
                # A word that is only a word, such as "Back", is no name whatever it does.
                if first not in _NOBODY and (first not in lexicon.words_of("words") or first in lexicon.names()):
                    yield Person(*match.span("phi"), habit.rule)
    for match in _ADDRESSED.finditer(text):
        if lexicon.plainly(match["phi"].lower()) in lexicon.first_names():
            yield Person(*match.span("phi"), "name, addressed")
    for match in _OVER_ADDRESS.finditer(text):
        if not any(stem_of(word) in lexicon.plain_words() for word in match["phi"].split()):
            yield Person(*match.span("phi"), "name, over an address")


def find_speakers(text: str) -> Iterator[Person]:
    """Yield who speaks in a dialogue of which half the speakers are known."""
    speakers = list(_SPEAKER.finditer(text))
    known = sum(lexicon.plainly(match["phi"].lower()) in lexicon.clear_first_names() for match in speakers)
    if len(speakers) > 1 and 2 * known >= len(speakers):
        for match in speakers:
            if match["phi"].lower() not in _NOBODY:
                yield Person(*match.span("phi"), "name, of a speaker")
