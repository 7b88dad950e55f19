"""Several questions about the same images made into one conversation, so that the images are read once."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from mmmed.processing.processor import without_images
from mmmed.records import Example


def merge(examples: Sequence[Example], *, most_turns: int, seed: int) -> list[Example]:
    """Join closed questions about the same images, with the same options, into conversations of up to `most_turns`.

    A free-text answer, or a question with other options, would give away the answers of those after it, so it
    stays alone. The order is random, so that each question is at times the first, as it is in evaluation.
    """
    groups: dict[tuple[object, ...], list[Example]] = {}
    for example in examples:
        names = tuple(image.name for image in example.images)
        alone = () if example.options and names else (example.id,)
        groups.setdefault((example.source, names, example.options, alone), []).append(example)
    return [part for group in groups.values() for part in _conversations(group, most_turns=most_turns, seed=seed)]


def _conversations(group: list[Example], *, most_turns: int, seed: int) -> Iterable[Example]:
    shuffled = Random(f"{seed}:{group[0].id}").sample(group, len(group))
    for start in range(0, len(shuffled), most_turns):
        first, *rest = shuffled[start : start + most_turns]
        turns = [*first.turns, *(turn for example in rest for turn in without_images(example).turns)]
        yield replace(first, turns=tuple(turns), options=())
