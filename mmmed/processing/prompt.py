"""From a conversation to token ids and an exact answer mask, for any chat template.

The whole conversation is rendered by the tokenizer's own chat template and tokenised once. What the
assistant said, and the mark that ends its turn, is supervised; nothing else is. The same rendering, cut
before the answer, is what scoring and generation see, so training and serving cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mmmed.errors import ConfigError, RecordError, did_you_mean
from mmmed.processing.templates import TEMPLATES
from mmmed.records import IMAGE_PLACEHOLDER, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Span(NamedTuple):
    """Half-open character range [start, end)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """Token ids (T,) and, for each, whether its prediction is supervised (T,)."""

    ids: list[int]
    supervised: list[bool]


class ChatPrompt:
    """Turns conversations into tokens; one `<image>` token stands for each image.

    Args:
        tokenizer: A fast tokenizer; `<image>` is added to it as a special token where it is missing.
        template: Name of a chat template (one of `TEMPLATES`) in the place of the tokenizer's own; None takes its
            own, or `plain` where it has none.

    Raises:
        ConfigError: The tokenizer gives no character offsets, has no end-of-sequence token, or lacks tokens that
            the template is made of; or there is no such template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, template: str | None = None) -> None:
        if not tokenizer.is_fast:
            raise ConfigError(f"{type(tokenizer).__name__} gives no character offsets; use a fast tokenizer")
        if tokenizer.eos_token is None:
            raise ConfigError(f"{type(tokenizer).__name__} has no end-of-sequence token; set eos_token")
        if template is not None or tokenizer.chat_template is None:
            _dress(tokenizer, template or "plain")
        if IMAGE_PLACEHOLDER not in tokenizer.get_vocab():
            # Added to those there are, not in their place: a template's turns may end with one of them.
            tokenizer.add_special_tokens(
                {"extra_special_tokens": [IMAGE_PLACEHOLDER]}, replace_extra_special_tokens=False
            )
        self.tokenizer = tokenizer
        self.image_id = tokenizer.get_vocab()[IMAGE_PLACEHOLDER]

    def conversation(self, turns: Sequence[Turn]) -> TokenizedPrompt:
        """Tokenise a whole conversation and mark what the assistant said.

        Raises:
            ConfigError: The chat template rewrites or drops an assistant turn.
        """
        text = self._render(turns)
        spans = self._answer_spans(turns, text)
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        supervised = [
            end > start and any(start < span.end and end > span.start for span in spans)
            for start, end in encoding["offset_mapping"]
        ]
        return TokenizedPrompt(list(encoding["input_ids"]), supervised)

    def lengths(self, conversations: Sequence[Sequence[Turn]]) -> list[int]:
        """Tokens of each whole conversation."""
        if not conversations:
            return []
        texts = [self._render(turns) for turns in conversations]
        return [len(ids) for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]

    def document(self, text: str) -> TokenizedPrompt:
        """Tokenise a text that is no conversation, begun as the tokenizer begins texts; all but that is learned."""
        ids = list(self.tokenizer(text.strip())["input_ids"])
        begun = bool(ids) and ids[0] == self.tokenizer.bos_token_id
        if ids[-1:] != [self.tokenizer.eos_token_id]:
            ids.append(self.tokenizer.eos_token_id)
        return TokenizedPrompt(ids, [index > 0 or not begun for index in range(len(ids))])

    def before_answer(self, turns: Sequence[Turn]) -> list[int]:
        """Token ids up to where the assistant's next word begins; `turns` ends with the user's."""
        return list(self.tokenizer(self._opening(turns), add_special_tokens=False)["input_ids"])

    def answers(self, turns: Sequence[Turn], texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each of `texts` as the next answer, without the mark that ends the turn.

        Raises:
            ConfigError: The tokens before an answer change with the answer, so that no likelihood of it alone exists;
                or the chat template rewrites it.
        """
        opening = self._opening(turns)
        _check_said(turns, opening)
        wholes = [self._render([*turns, Turn("assistant", text)]) for text in texts]
        ends = [self._end(whole, opening, text, turn=len(turns)) for whole, text in zip(wholes, texts, strict=True)]
        cut = [whole[:end] for whole, end in zip(wholes, ends, strict=True)]
        before, *ids = self.tokenizer([opening, *cut, *wholes], add_special_tokens=False, verbose=False)["input_ids"]
        answers = []
        for text, until, whole in zip(texts, ids[: len(texts)], ids[len(texts) :], strict=True):
            if whole[: len(before)] != before:
                raise ConfigError(
                    f"tokens before the answer {text!r} change with it under this chat template; "
                    "end the generation prompt without white space"
                )
            answers.append(list(whole[len(before) : len(until)]))
        return answers

    def _render(self, turns: Sequence[Turn], *, ask: bool = False) -> str:
        messages = [{"role": turn.speaker, "content": turn.text.strip()} for turn in turns]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))

    def _opening(self, turns: Sequence[Turn]) -> str:
        return self._render(turns, ask=True)

    def _end(self, whole: str, opening: str, answer: str, *, turn: int) -> int:
        """Where an answer, the last of these turns, ends in their text."""
        start = whole.find(answer.strip(), len(opening)) if whole.startswith(opening) else -1
        if start < 0:
            raise _rewritten(turn)
        return start + len(answer.strip())

    def _answer_spans(self, turns: Sequence[Turn], text: str) -> list[Span]:
        spans = []
        for index, turn in enumerate(turns):
            if turn.speaker != "assistant":
                continue
            opening = self._opening(turns[:index])
            closing = self._render(turns[: index + 1]) if index + 1 < len(turns) else text
            answer = turn.text.strip()
            start = text.find(answer, len(opening), len(closing))
            if not text.startswith(opening) or not text.startswith(closing) or start < 0:
                raise _rewritten(index)
            if turn.blanks:
                spans += _blank_spans(turn, Span(start, start + len(answer)), text)
                continue
            end = start + len(answer)
            # A space that the prompt leaves to the model is the first thing it has to say.
            begin = len(opening) if text[len(opening) : start].isspace() else start
            spans.append(Span(begin, end + self._stop_length(text[end : len(closing)])))
        return spans

    def _stop_length(self, tail: str) -> int:
        """Characters of the special token that ends the turn, if the tail begins with one."""
        stops = [token for token in self.tokenizer.all_special_tokens if token and tail.lstrip(" \n").startswith(token)]
        if not stops:
            return 0
        return len(tail) - len(tail.lstrip(" \n")) + max(map(len, stops))


def _check_said(turns: Sequence[Turn], opening: str) -> None:
    """See that all that was answered before, such as in examples, stands in the text."""
    place = 0
    for index, turn in enumerate(turns):
        if turn.speaker == "assistant":
            place = opening.find(turn.text.strip(), place)
            if place < 0:
                raise _rewritten(index)


def _rewritten(turn: int) -> ConfigError:
    return ConfigError(
        f"the chat template rewrites assistant turn {turn + 1}; it cannot be masked exactly, "
        "use a template that renders each turn on its own"
    )


def _dress(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    if name not in TEMPLATES:
        raise ConfigError(f"unknown chat template {name!r}{did_you_mean(name, TEMPLATES)}")
    template = TEMPLATES[name]
    if missing := [token for token in template.needs if token not in tokenizer.get_vocab()]:
        raise ConfigError(
            f"chat template {name} is made of {missing[0]}, which the tokenizer lacks; choose another one"
        )
    tokenizer.chat_template = template.jinja
    if template.needs:
        tokenizer.eos_token = template.needs[-1]


def _blank_spans(turn: Turn, form: Span, text: str) -> list[Span]:
    """Where the blanks of a form stand, as whole words; each is looked for after the one before."""
    spans: list[Span] = []
    for blank in turn.blanks:
        place = spans[-1].end if spans else form.start
        found = re.compile(rf"\b{re.escape(blank)}\b").search(text, place, form.end)
        if found is None:
            raise RecordError(f"no blank {blank!r} in the rest of the form {turn.text!r}; list blanks in their order")
        spans.append(Span(*found.span()))
    return spans
