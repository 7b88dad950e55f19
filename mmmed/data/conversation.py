"""Several questions about the same images made into one conversation, so that the images are read once."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from mmmed.processing.processor import without_images
from mmmed.records import Example


def merge(examples: Sequence[Example], *, most_turns: int, seed: int) -> list[Example]:
    """Join examples that share patient, images and split into conversations of up to `most_turns` questions.

    The order of the questions is random, so that each of them is at times the first, as it is in evaluation.
    """
    groups: dict[tuple[object, ...], list[Example]] = {}
    for example in examples:
        names = tuple(image.name for image in example.images)
        groups.setdefault((example.source, example.patient, names or example.id), []).append(example)
    return [part for group in groups.values() for part in _conversations(group, most_turns=most_turns, seed=seed)]


def _conversations(group: list[Example], *, most_turns: int, seed: int) -> Iterable[Example]:
    shuffled = Random(f"{seed}:{group[0].id}").sample(group, len(group))
    for start in range(0, len(shuffled), most_turns):
        first, *rest = shuffled[start : start + most_turns]
        turns = [*first.turns, *(turn for example in rest for turn in without_images(example).turns)]
        yield replace(first, turns=tuple(turns), options=())
