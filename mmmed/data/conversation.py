"""Several questions about the same images made into one conversation, so that the images are read once."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Literal, TypeVar

from mmmed.processing.processor import without_images
from mmmed.records import Example

Join = Literal["closed", "all"]

Kept = TypeVar("Kept")


def merge(examples: Sequence[Example], *, most_turns: int, seed: int, join: Join = "closed") -> list[Example]:
    """Join questions about the same images into conversations of up to `most_turns`.

    The order is random, so that each question is at times the first, as it is in evaluation.

    Args:
        examples: Questions; those about no image stay alone.
        most_turns: Questions in one conversation.
        seed: Of the order.
        join: `closed` joins closed questions with the same options alone, since a free-text answer, or one of other
            options, would give away the answers of those after it. `all` joins whatever is asked about the same
            images, for objectives that read no answer before another. An answer that is compared with a worse one
            stays alone.
    """
    groups: dict[tuple[object, ...], list[Example]] = {}
    for example in examples:
        names = tuple(image.name for image in example.images)
        compared = any(turn.rejected for turn in example.turns)
        joins = names and not compared and (join == "all" or example.options)
        alone = () if joins else (example.id,)
        options = example.options if join == "closed" else ()
        groups.setdefault((example.source, names, options, alone), []).append(example)
    return [
        joined(part)
        for group in groups.values()
        for part in parts(group[0].id, group, most_turns=most_turns, seed=seed)
    ]


def parts(first: str, group: Sequence[Kept], *, most_turns: int, seed: int) -> list[list[Kept]]:
    """Cut what is asked about the same images into conversations of up to `most_turns`, in random order.

    Args:
        first: Identifier of the first of the group, which with the seed decides the order.
        group: The questions, or what stands for them.
        most_turns: Questions in one conversation.
        seed: Of the order.
    """
    shuffled = Random(f"{seed}:{first}").sample(group, len(group))
    return [shuffled[start : start + most_turns] for start in range(0, len(shuffled), most_turns)]


def joined(questions: Sequence[Example]) -> Example:
    """One conversation of several questions about the same images."""
    first, *rest = questions
    turns = [*first.turns, *(turn for example in rest for turn in without_images(example).turns)]
    return replace(first, turns=tuple(turns), options=()) if rest else first
