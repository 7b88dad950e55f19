"""The strategies of asking: directly, in writing, with reasons first, or several times with a vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args

from mmmed.errors import ConfigError
from mmmed.inference.generation import Decoding
from mmmed.inference.parsing import named_option
from mmmed.inference.prompting import Form, letters_of, put
from mmmed.inference.scoring import Rule
from mmmed.inference.shots import Shots
from mmmed.records import Answer, Example

Strategy = Literal["direct", "written", "chain_of_thought", "self_consistency"]
Advance = Callable[[int], object]

REASON = "Think step by step. End with a line of its own: 'Answer:' and the answer."
"""Source: Kojima et al. 2022, Large Language Models are Zero-Shot Reasoners; the last line is for parsing."""


class Answerer(Protocol):
    """Who can be asked: a `Session`, or a model behind an endpoint."""

    def choose(
        self,
        examples: Sequence[Example],
        *,
        rule: Rule | None = None,
        unasked: Sequence[Example] | None = None,
        advance: Advance = ...,
    ) -> list[Answer]:
        """One option of each closed question; `unasked` is each without content, for calibrated rules."""
        ...

    def write(
        self, examples: Sequence[Example], *, decoding: Decoding | None = None, advance: Advance = ...
    ) -> list[Answer]:
        """Free text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a task's questions are put and answered.

    Args:
        form: Of the prompt.
        shots: Which examples stand before each question.
        strategy: "direct" takes the likeliest option, or writes where there are none; "written" always writes, and
            leaves what was written as it is, for protocols that judge the words; "chain_of_thought" writes reasons and
            takes the option named at the end; "self_consistency" does so several times and takes the option named
            most often, its share being the confidence (Wang et al. 2022, arXiv 2203.11171).
        samples: How often "self_consistency" asks.
        rule: How likelihoods become a choice.
        decoding: How text is written.

    Raises:
        ConfigError: There is no such strategy, or too few samples or no temperature for a vote.
    """

    form: Form = field(default_factory=Form)
    shots: Shots = field(default_factory=Shots)
    strategy: Strategy = "direct"
    samples: int = 1
    rule: Rule = field(default_factory=Rule)
    decoding: Decoding = field(default_factory=Decoding)

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ConfigError(f"strategy is {self.strategy!r}; expected one of {', '.join(get_args(Strategy))}")
        if self.strategy == "self_consistency" and (self.samples < 2 or not self.decoding.temperature):
            raise ConfigError(
                f"self_consistency with {self.samples} samples at temperature {self.decoding.temperature}: "
                "all would be the same; expected 2 samples or more and a temperature above 0"
            )


def answer(
    answerer: Answerer,
    examples: Sequence[Example],
    asking: Asking,
    *,
    shots: Sequence[Sequence[Example]] | None = None,
    passages: Sequence[str] | None = None,
    advance: Advance = lambda count: None,
) -> list[Answer]:
    """Ask, and give each answer in terms of the example's own options.

    Args:
        answerer: Who is asked.
        examples: Questions, with or without options.
        asking: How.
        shots: The examples that stand before each question, of `choose_shots`.
        passages: What was retrieved for each question.
        advance: Told how many questions are done since the last call.
    """
    before = shots if shots is not None else [()] * len(examples)
    found = passages if passages is not None else [""] * len(examples)
    answers: list[Answer | None] = [None] * len(examples)
    closed = [index for index, example in enumerate(examples) if example.options]
    is_reasoned = asking.strategy in ("chain_of_thought", "self_consistency")
    is_lettered = asking.form.answer == "letters"
    form = _reasoned(asking.form) if is_reasoned else asking.form

    def asked(index: int, *, content: bool = True) -> Example:
        return put(examples[index], form, shots=before[index], passages=found[index], content=content)

    if asking.strategy != "direct":
        written = _votes(answerer, [asked(index) for index in closed], asking, advance=advance)
        for index, texts in zip(closed, written, strict=True):
            one = _voted(examples[index], texts, letters=is_lettered)
            answers[index] = one if is_reasoned or is_lettered else Answer(text=texts[-1], options=one.options)
    else:
        unasked = [asked(index, content=False) for index in closed] if asking.rule.calibrated else None
        chosen = answerer.choose([asked(index) for index in closed], rule=asking.rule, unasked=unasked, advance=advance)
        for index, one in zip(closed, chosen, strict=True):
            answers[index] = _in_texts(examples[index], one) if is_lettered else one
    free = [index for index, example in enumerate(examples) if not example.options]
    replies = answerer.write([asked(index) for index in free], decoding=asking.decoding, advance=advance)
    for index, one in zip(free, replies, strict=True):
        answers[index] = one
    return [one for one in answers if one is not None]


def _reasoned(form: Form) -> Form:
    return replace(form, prompt=f"{form.prompt.removesuffix('Answer:').rstrip()}\n{REASON}")


def _votes(answerer: Answerer, asked: Sequence[Example], asking: Asking, *, advance: Advance) -> list[list[str]]:
    """What is written for each question, once or as often as a vote needs."""
    times = asking.samples if asking.strategy == "self_consistency" else 1
    repeated = [example for example in asked for _ in range(times)]
    done = 0

    def told(count: int) -> None:
        nonlocal done
        before, done = done // times, done + count
        advance(done // times - before)

    texts = [one.text for one in answerer.write(repeated, decoding=asking.decoding, advance=told)]
    return [texts[start : start + times] for start in range(0, len(texts), times)]


def _voted(example: Example, texts: Sequence[str], *, letters: bool) -> Answer:
    """The option named most often, the first of equals; what was written last where none was named."""
    named = [named_option(text, example.options, letters=letters_of(example) if letters else ()) for text in texts]
    votes = Counter(one for one in named if one is not None)
    shares = {option: votes[option] / len(texts) for option in example.options}
    if not votes:
        return Answer(text=texts[-1], options=shares)
    return Answer(text=max(example.options, key=votes.__getitem__), options=shares)


def _in_texts(example: Example, answer: Answer) -> Answer:
    """An answer by letter as an answer by text; what is no letter stays what was said."""
    text_of = dict(zip(letters_of(example), example.options, strict=True))
    return Answer(
        text=text_of.get(answer.text, answer.text),
        options={text_of[letter]: share for letter, share in answer.options.items()},
    )
