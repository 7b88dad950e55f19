"""The baseline that looks at neither image nor question: what was most often right in training."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.scorers import normalise


def majority(
    predictions: Sequence[Prediction], *, training: Mapping[str, Mapping[str, int]], arm: str = "majority"
) -> list[Prediction]:
    """The baseline that looks at neither image nor question: the training split's most frequent answer per topic.

    Where no option was an answer in the topic's training items, those of all topics count. Among equally frequent
    answers, or where none was ever given, the first in the alphabet is taken.

    Args:
        predictions: The items, as any other arm answered them.
        training: How often each answer occurs in the training split, by topic.
        arm: Name of the new arm.
    """
    by_topic = {topic: _normalised(counts) for topic, counts in training.items()}
    overall = sum(by_topic.values(), Counter[str]())
    return [_most_frequent(item, by_topic.get(item.topic, Counter()), overall, arm) for item in predictions]


def _most_frequent(item: Prediction, topic: Counter[str], overall: Counter[str], arm: str) -> Prediction:
    if not item.options:
        counts = topic or overall
        answer = max(sorted(counts), key=counts.__getitem__, default="")
        return replace(item, arm=arm, answer=answer, confidence=None)
    keys = {option: normalise(option) for option in sorted(item.options)}
    known = next((counts for counts in (topic, overall) if any(counts[key] for key in keys.values())), None)
    counts = Counter(keys.values()) if known is None else known
    total = sum(counts[key] for key in keys.values())
    shares = {option: counts[keys[option]] / total for option in item.options}
    answer = max(keys, key=shares.__getitem__)
    return replace(item, arm=arm, answer=answer, options=shares, confidence=shares[answer])


def _normalised(counts: Mapping[str, int]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for answer, count in counts.items():
        totals[normalise(answer)] += count
    return totals
