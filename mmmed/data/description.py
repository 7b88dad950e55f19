"""What is in a data set: who, how much, how long, how even, and what is missing; counted, not judged."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mmmed.data.splits import uniform
from mmmed.records import SPLITS, Example, Quarantined, Split

MOST_VALUES = 12
"""Values of one attribute that are named; what comes after is counted together."""

_MOST_BARS = 24


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
        others: Units with any other value.
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
        attributes: What is known of pictures and of patients.
        licences: Licences of single records, where they have their own.
        quarantined: Records that were set aside, by reason.
    """

    examples: Mapping[Split, int]
    patients: Mapping[Split, int]
    pictures: Mapping[Split, int]
    topics: Sequence[Topic]
    question_words: Spread | None
    answer_words: Spread | None
    attributes: Sequence[Attribute]
    licences: Sequence[tuple[str, int]]
    quarantined: Sequence[tuple[str, int]]


def describe(examples: Sequence[Example], quarantined: Iterable[Quarantined]) -> Description:
    """Count what is in these records."""
    patients: dict[Split, set[str]] = defaultdict(set)
    pictures: dict[Split, set[str]] = defaultdict(set)
    topics: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        patients[example.split].add(example.patient)
        pictures[example.split] |= {image.name for image in example.images}
        topics[example.topic][example.reference if example.options else ""] += 1
    asked = sorted(topics.items(), key=lambda topic: -topic[1].total())
    return Description(
        examples=Counter(example.split for example in examples),
        patients={split: len(patients[split]) for split in SPLITS},
        pictures={split: len(pictures[split]) for split in SPLITS},
        topics=[Topic(name, n.total(), [pair for pair in n.most_common() if pair[0]]) for name, n in asked],
        question_words=spread([len(one.question.split()) for one in examples if one.question]),
        answer_words=spread([len(one.reference.split()) for one in examples if one.reference and not one.options]),
        attributes=_attributes(examples),
        licences=Counter(example.licence for example in examples if example.licence).most_common(),
        quarantined=Counter(one.reason for one in quarantined).most_common(),
    )


def spread(values: Iterable[float]) -> Spread | None:
    """Least, median, greatest and a histogram with round bins; none of no values."""
    numbers = sorted(value for value in values if math.isfinite(value))
    if not numbers:
        return None
    low, high = numbers[0], numbers[-1]
    width = _round_width((high - low) / _MOST_BARS) if high > low else 1.0
    if all(float(number).is_integer() for number in numbers):
        width = max(1.0, float(math.ceil(width)))
    first = math.floor(low / width)
    counts = Counter(math.floor(number / width) - first for number in numbers)
    bins = [Bin((first + i) * width, (first + i + 1) * width, counts[i]) for i in range(max(counts) + 1)]
    middle = len(numbers) // 2
    median = numbers[middle] if len(numbers) % 2 else (numbers[middle - 1] + numbers[middle]) / 2
    return Spread(low, median, high, bins)


def samples(examples: Sequence[Example], *, most: int) -> list[Example]:
    """A few examples with pictures, each of another picture: kinds of answer in turn, by a hash within each."""
    kinds: dict[tuple[str, str], list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda one: uniform(f"{one.source}:{one.id}")):
        if example.images:
            kinds[example.topic, example.reference if example.options else ""].append(example)
    chosen: dict[str, Example] = {}
    queues = [kinds[kind] for kind in sorted(kinds)]
    while len(chosen) < most and any(queues):
        for queue in queues:
            while queue and queue[0].images[0].name in chosen:
                queue.pop(0)
            if queue and len(chosen) < most:
                example = queue.pop(0)
                chosen[example.images[0].name] = example
    return list(chosen.values())


def _attributes(examples: Sequence[Example]) -> list[Attribute]:
    by_example = [example.attributes for example in examples]
    by_picture: dict[str, Mapping[str, str | float]] = {}
    differing: set[str] = set()
    for example in examples:
        for image in example.images:
            known = by_picture.setdefault(image.name, example.attributes)
            if known is not example.attributes:
                names = {*known, *example.attributes}
                differing |= {name for name in names if known.get(name) != example.attributes.get(name)}
    pictures = list(by_picture.values())
    return [
        _attribute(name, "examples", by_example)
        if name in differing or not pictures
        else _attribute(name, "pictures", pictures)
        for name in dict.fromkeys(name for one in by_example for name in one)
    ]


def _attribute(name: str, unit: str, facts: Sequence[Mapping[str, str | float]]) -> Attribute:
    known = [one[name] for one in facts if name in one]
    missing = len(facts) - len(known)
    numbers = [float(value) for value in known if not isinstance(value, str)]
    if len(numbers) == len(known):
        return Attribute(name, unit, len(facts), missing, spread(numbers), [], 0)
    words = Counter(part.strip() for value in known for part in str(value).split(";"))
    named = words.most_common(MOST_VALUES)
    others = words.total() - sum(number for _, number in named)
    return Attribute(name, unit, len(facts), missing, None, named, others)


def _round_width(width: float) -> float:
    power = 10.0 ** math.floor(math.log10(width))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= width)
