"""How a question is put: its prompt, letters or full texts, examples before it. Examples in, examples out."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mmmed.data.choice import LETTERS
from mmmed.errors import ConfigError, RecordError
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn

AnswerForm = Literal["text", "letters"]

NO_CONTENT = "N/A"
"""What stands in the place of a question to hear what a model says without one. Source: Zhao et al. 2021, section 5."""

_FIELDS = ("question", "options", "passages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a question is put.

    Args:
        prompt: The user's words: ``{question}`` is what the source asks, ``{options}`` the options, one a line (with
            their letters where letters answer), ``{passages}`` what was retrieved. Images stay before it.
        answer: Whether an option is answered by its text or by its letter.
        instruction: Stands before the first words of the conversation.

    Raises:
        ConfigError: The prompt has no question or an unknown field, or letters are asked for and not shown.
    """

    prompt: str = "{question}"
    answer: AnswerForm = "text"
    instruction: str = ""

    def __post_init__(self) -> None:
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None}
        except ValueError as error:
            raise ConfigError(f"prompt {self.prompt!r}: {error}; write a literal brace twice") from error
        if unknown := sorted(fields - set(_FIELDS)):
            raise ConfigError(f"prompt {self.prompt!r}: unknown {{{unknown[0]}}}; known are {', '.join(_FIELDS)}")
        if "question" not in fields:
            raise ConfigError(f"prompt {self.prompt!r}: expected {{question}} in it")
        if self.answer not in ("text", "letters"):
            raise ConfigError(f"answer is {self.answer!r}; expected text or letters")
        if self.answer == "letters" and "options" not in fields:
            raise ConfigError(f"prompt {self.prompt!r}: letters mean nothing without {{options}} in it")


def put(
    example: Example, form: Form, *, shots: Sequence[Example] = (), passages: str = "", content: bool = True
) -> Example:
    """The example as it is asked: in its form, after other examples with their answers.

    Args:
        example: One question; an earlier part of its conversation is kept.
        form: Of the question and of the shots.
        shots: Other questions with their answers, in order.
        passages: What was retrieved for it.
        content: Without content, `NO_CONTENT` stands in the place of the question, and no image is shown.

    Raises:
        RecordError: The options are more than there are letters.
    """
    asked = _formed(example, form, passages=passages, content=content)
    shown = [_formed(shot, form, passages="", content=True) for shot in shots]
    turns = [turn for shot in shown for turn in shot.turns] + list(asked.turns)
    if form.instruction:
        first = next(index for index, turn in enumerate(turns) if turn.speaker == "user")
        turns[first] = replace(turns[first], text=f"{form.instruction}\n\n{turns[first].text}")
    images = tuple(image for one in (*shown, asked) for image in one.images)
    return replace(asked, turns=tuple(turns), images=images)


def letters_of(example: Example) -> tuple[str, ...]:
    """The letters of an example's options, in their order. Raises `RecordError` where there are not enough."""
    if len(example.options) > len(LETTERS):
        raise RecordError(f"{example.source}:{example.id}: {len(example.options)} options for {len(LETTERS)} letters")
    return tuple(LETTERS[: len(example.options)])


def _formed(example: Example, form: Form, *, passages: str, content: bool) -> Example:
    turns = list(example.turns)
    place = max(index for index, turn in enumerate(turns) if turn.speaker == "user")
    named = letters_of(example) if form.answer == "letters" else ()
    shown = [f"{letter}. {option}" for letter, option in zip(named, example.options, strict=True)] if named else None
    text = form.prompt.format(
        question=example.question if content else NO_CONTENT,
        options="\n".join(shown if shown is not None else example.options),
        passages=passages,
    )
    images = turns[place].text.count(IMAGE_PLACEHOLDER) if content else 0
    turns[place] = replace(turns[place], text=f"{IMAGE_PLACEHOLDER}\n" * images + text)
    if not content:
        turns = turns[place:]
    if not named:
        return replace(example, turns=tuple(turns), images=example.images if content else ())
    letter_of = dict(zip(example.options, named, strict=True))
    said = [
        Turn("assistant", letter_of.get(turn.text, turn.text)) if turn.speaker == "assistant" else turn
        for turn in turns
    ]
    return replace(example, turns=tuple(said), images=example.images if content else (), options=named)
