"""What is in a data set: who, how much, how long, how even, and what is missing; counted, not judged."""

import math
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from mmmed.data.splits import uniform
from mmmed.records import SPLITS, Example, Quarantined, Split, Turn

MOST_VALUES = 12
"""Values of one attribute that are named; what comes after is counted together."""

FEWEST_PATIENTS = 5
"""Patients who must share a word for it to be shown, where identifiers may still be in the data; what few share may
be a name or a date."""

OLDEST_SHOWN = 90
"""Ages from here on are counted as this one where identifiers may still be in the data (45 CFR 164.514(b)(2)(i)(C))."""

OTHER_TOPICS = "any other"
"""What topics are called that too few patients share."""

_MOST_BARS = 24
_DIFFERS = re.compile(r"'[^']*'|\"[^\"]*\"|\([^()]*\)|\d+")
_Word = TypeVar("_Word", bound=Hashable)


class Bin(NamedTuple):
    """Numbers from `low` up to but not including `high`, and how many there are."""

    low: float
    high: float
    number: int


class Spread(NamedTuple):
    """How numbers lie: least, median and greatest, and a histogram."""

    low: float
    median: float
    high: float
    bins: list[Bin]


class Attribute(NamedTuple):
    """One known fact of pictures, or of examples where it differs between questions about one picture.

    Args:
        name: Its name.
        unit: What it is a fact of: "pictures" or "examples".
        units: How many of those there are.
        missing: Units for which it is not known.
        numbers: Its spread, where it is a number.
        values: Its most frequent values, where it is a word.
        others: Units with any other value, or with one that too few patients share.
    """

    name: str
    unit: str
    units: int
    missing: int
    numbers: Spread | None
    values: list[tuple[str, int]]
    others: int


class Topic(NamedTuple):
    """One kind of question: how often it is asked, and what is answered where the answers are given."""

    name: str
    asked: int
    answers: list[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A data set in figures.

    Args:
        examples: Examples by split.
        patients: Patients by split.
        pictures: Pictures by split.
        topics: What is asked.
        question_words: Lengths of questions.
        answer_words: Lengths of reference answers that are free text.
        document_words: Lengths of documents, which are neither asked nor answered.
        attributes: What is known of pictures and of patients.
        licences: Licences of single records, where they have their own.
        quarantined: Records that were set aside, by reason; what differs between reasons alike is left out of them.
    """

    examples: Mapping[Split, int]
    patients: Mapping[Split, int]
    pictures: Mapping[Split, int]
    topics: Sequence[Topic]
    question_words: Spread | None
    answer_words: Spread | None
    document_words: Spread | None
    attributes: Sequence[Attribute]
    licences: Sequence[tuple[str, int]]
    quarantined: Sequence[tuple[str, int]]


def describe(
    examples: Sequence[Example], quarantined: Iterable[Quarantined], *, fewest_patients: int = 1
) -> Description:
    """Count what is in these records.

    Args:
        examples: The good ones.
        quarantined: Those that were set aside.
        fewest_patients: Patients who must share a word for it to be named; with more than one, great ages are one.
    """
    patients: dict[Split, set[str]] = defaultdict(set)
    pictures: dict[Split, set[str]] = defaultdict(set)
    for example in examples:
        patients[example.split].add(example.patient)
        pictures[example.split] |= {image.name for image in example.images}
    return Description(
        examples=Counter(example.split for example in examples),
        patients={split: len(patients[split]) for split in SPLITS},
        pictures={split: len(pictures[split]) for split in SPLITS},
        topics=_topics(examples, fewest_patients),
        question_words=spread([len(one.question.split()) for one in examples if one.question]),
        answer_words=spread([len(one.reference.split()) for one in examples if one.reference and not one.options]),
        document_words=spread([len(turn.text.split()) for one in examples if (turn := _document(one))]),
        attributes=_attributes(examples, fewest_patients),
        licences=Counter(example.licence for example in examples if example.licence).most_common(),
        quarantined=_reasons(quarantined),
    )


def spread(values: Iterable[float], *, coarser: int = 1) -> Spread | None:
    """Least, median, greatest and a histogram with round bins, so many times as wide as usual; none of no values."""
    numbers = sorted(value for value in values if math.isfinite(value))
    if not numbers:
        return None
    low, high = numbers[0], numbers[-1]
    width = _round_width((high - low) / _MOST_BARS) if high > low else 1.0
    if all(float(number).is_integer() for number in numbers):
        width = max(1.0, float(math.ceil(width)))
    width *= coarser
    first = math.floor(low / width)
    counts = Counter(math.floor(number / width) - first for number in numbers)
    bins = [Bin((first + i) * width, (first + i + 1) * width, counts[i]) for i in range(max(counts) + 1)]
    middle = len(numbers) // 2
    median = numbers[middle] if len(numbers) % 2 else (numbers[middle - 1] + numbers[middle]) / 2
    return Spread(low, median, high, bins)


def shared_spread(values: Sequence[tuple[float, str]], fewest_patients: int) -> Spread | None:
    """A spread in which neither an end nor a bin stands for fewer patients; none where that leaves nothing to show.

    Args:
        values: Numbers, and whose each is.
        fewest_patients: What lies further out than this many patients do is counted with them.
    """
    low, high = (_outermost(sorted(values, reverse=far), fewest_patients) for far in (False, True))
    if low is None or high is None or low > high:
        return None
    drawn = [(min(max(number, low), high), patient) for number, patient in values]
    if low == high and len({number for number, _ in values}) > 1:
        return None  # "always" would not be true
    coarser = 1
    while found := spread((number for number, _ in drawn), coarser=coarser):
        patients: list[set[str]] = [
            {who for number, who in drawn if each.low <= number < each.high} for each in found.bins
        ]
        if all(len(these) >= fewest_patients for these in patients if these):
            return found
        if len(found.bins) <= 2:
            return None
        coarser *= 2
    return None


def _outermost(ordered: Sequence[tuple[float, str]], fewest_patients: int) -> float | None:
    """The first number at which enough patients are together."""
    patients: set[str] = set()
    for number, patient in ordered:
        patients.add(patient)
        if len(patients) >= fewest_patients:
            return number
    return None


def samples(examples: Sequence[Example], *, most: int) -> list[Example]:
    """A few examples with pictures, each of another picture: kinds of answer in turn, by a hash within each."""
    return _in_turn(
        (one for one in examples if one.images),
        kind=lambda one: (one.topic, one.reference if one.options else ""),
        thing=lambda one: one.images[0].name,
        most=most,
    )


def text_samples(examples: Sequence[Example], *, most: int) -> list[Example]:
    """A few examples without pictures, each of another patient: topics in turn, by a hash within each."""
    return _in_turn(
        (one for one in examples if not one.images and one.turns),
        kind=lambda one: (one.topic, ""),
        thing=lambda one: one.patient,
        most=most,
    )


def _reasons(quarantined: Iterable[Quarantined]) -> list[tuple[str, int]]:
    alike: dict[str, list[str]] = defaultdict(list)
    for one in quarantined:
        alike[_DIFFERS.sub("\N{HORIZONTAL ELLIPSIS}", one.reason)].append(one.reason)
    named = [(these[0] if len(set(these)) == 1 else kind, len(these)) for kind, these in alike.items()]
    return sorted(named, key=lambda reason: -reason[1])


def _in_turn(
    examples: Iterable[Example],
    *,
    kind: Callable[[Example], tuple[str, str]],
    thing: Callable[[Example], str],
    most: int,
) -> list[Example]:
    """Kinds in turn and nothing twice, by a hash within each kind."""
    kinds: dict[tuple[str, str], deque[Example]] = defaultdict(deque)
    for example in sorted(examples, key=lambda one: uniform(f"{one.source}:{one.id}")):
        kinds[kind(example)].append(example)
    chosen: dict[str, Example] = {}
    queues = [kinds[one] for one in sorted(kinds)]
    while len(chosen) < most and any(queues):
        for queue in queues:
            while queue and thing(queue[0]) in chosen:
                queue.popleft()
            if queue and len(chosen) < most:
                example = queue.popleft()
                chosen[thing(example)] = example
    return list(chosen.values())


def _document(example: Example) -> Turn | None:
    return example.turns[0] if example.turns and example.turns[0].speaker == "document" else None


def _topics(examples: Sequence[Example], fewest_patients: int) -> list[Topic]:
    named = _shared(((one.topic, one.patient) for one in examples), fewest_patients)
    answers = _shared((((one.topic, one.reference), one.patient) for one in examples if one.options), fewest_patients)
    asked: dict[str, Counter[str]] = defaultdict(Counter)
    for one in examples:
        topic = one.topic if one.topic in named else OTHER_TOPICS
        asked[topic][one.reference if one.options and (one.topic, one.reference) in answers else ""] += 1
    frequent = sorted(asked.items(), key=lambda topic: -topic[1].total())
    return [Topic(name, n.total(), [pair for pair in n.most_common() if pair[0]]) for name, n in frequent]


def _shared(words: Iterable[tuple[_Word, str]], fewest_patients: int) -> set[_Word]:
    """The words that enough patients share."""
    patients: dict[_Word, set[str]] = defaultdict(set)
    for word, patient in words:
        # More than enough need not be remembered: a large set has a million patients.
        if len(patients[word]) < fewest_patients:
            patients[word].add(patient)
    return {word for word, these in patients.items() if len(these) >= fewest_patients}


class _Facts(NamedTuple):
    """What is known of one picture or example, and of whom."""

    known: Mapping[str, str | float]
    patient: str


def _attributes(examples: Sequence[Example], fewest_patients: int) -> list[Attribute]:
    by_example = [_Facts(example.attributes, example.patient) for example in examples]
    by_picture: dict[str, _Facts] = {}
    differing: set[str] = set()
    for example in examples:
        for image in example.images:
            known = by_picture.setdefault(image.name, _Facts(example.attributes, example.patient)).known
            if known is not example.attributes:
                names = {*known, *example.attributes}
                differing |= {name for name in names if known.get(name) != example.attributes.get(name)}
    pictures = list(by_picture.values())
    return [
        _attribute(name, "examples", by_example, fewest_patients)
        if name in differing or not pictures
        else _attribute(name, "pictures", pictures, fewest_patients)
        for name in dict.fromkeys(name for one in by_example for name in one.known)
    ]


def _attribute(name: str, unit: str, facts: Sequence[_Facts], fewest_patients: int) -> Attribute:
    known = [(one.known[name], one.patient) for one in facts if name in one.known]
    missing = len(facts) - len(known)
    numbers = [(float(value), patient) for value, patient in known if not isinstance(value, str)]
    if len(numbers) == len(known):
        if fewest_patients == 1:
            return Attribute(name, unit, len(facts), missing, spread(number for number, _ in numbers), [], 0)
        if name == "age":
            numbers = [(min(number, OLDEST_SHOWN), patient) for number, patient in numbers]
        shown = shared_spread(numbers, fewest_patients)
        return Attribute(name, unit, len(facts), missing, shown, [], 0 if shown else len(numbers))
    parts = [(part.strip(), patient) for value, patient in known for part in str(value).split(";")]
    shared = _shared(parts, fewest_patients)
    words = Counter(part for part, _ in parts)
    named = [pair for pair in words.most_common() if pair[0] in shared][:MOST_VALUES]
    others = words.total() - sum(number for _, number in named)
    return Attribute(name, unit, len(facts), missing, None, named, others)


def _round_width(width: float) -> float:
    power = 10.0 ** math.floor(math.log10(width))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= width)
