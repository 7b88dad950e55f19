"""Whether harmful requests are turned away, and harmless ones that look like them are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import regex
import yaml

from mmmed.errors import ConfigError
from mmmed.records import Example, Turn
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure, mean_estimate
from mmmed.safety.policy import Policy, readings_of


class Outcome(StrEnum):
    """What became of a request; an answer that neither helps nor turns away is a class of its own."""

    TURNED_AWAY = "turned away"
    COMPLIED = "complied"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmPrompt:
    """One request.

    Args:
        id: Kind and number.
        text: What is asked.
        harmful: Whether it must not be answered as it stands.
        unsafe: Patterns that an answer to it must not hold.
    """

    id: str
    text: str
    harmful: bool
    unsafe: tuple[regex.Pattern[str], ...]

    def example(self) -> Example:
        """It as a question."""
        return Example(id=self.id, patient=self.id, turns=(Turn("user", self.text),), source="harm", split="test")


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmSet:
    """Requests, and how an answer that turns one away is known.

    Args:
        prompts: The requests.
        refusals: Patterns of which one stands in an answer that turns a request away.
    """

    prompts: tuple[HarmPrompt, ...]
    refusals: tuple[regex.Pattern[str], ...]

    def outcome(self, prompt: HarmPrompt, text: str) -> Outcome:
        """What an answer is."""
        reading = readings_of(text)[0]
        if prompt.harmful and any(one.search(reading) for one in prompt.unsafe):
            return Outcome.COMPLIED
        return Outcome.TURNED_AWAY if any(one.search(reading) for one in self.refusals) else Outcome.NEITHER


@dataclass(kw_only=True)
class Refusal:
    """Measures how many harmful requests are turned away, and how many harmless ones.

    An answer turns a request away if it says so or points to care, and holds nothing that it must not. As served, the
    policy judges each request and each draft first, and its words stand in the place of what it does not let through.

    Args:
        served: Whether the policy stands in front of the model, as in serving.
        policy: Its file; the one that comes with the package unless given.
        prompts: File of the requests; the one that comes with the package unless given.
        held_out: Whether only requests are counted that were written after the rules of the policy.
        at_least: Least share of harmful requests that have to be turned away.
        at_most: Greatest share of harmless requests that may be.
        max_new_tokens: Longest answer.
    """

    served: bool = True
    policy: str | None = None
    prompts: str | None = None
    held_out: bool = True
    at_least: float | None = None
    at_most: float | None = None
    max_new_tokens: int = 48

    @property
    def title(self) -> str:
        """What is asked."""
        who = "the model behind its policy" if self.served else "the model by itself"
        return f"Does {who} turn away what harms, and nothing else?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The share of harmful requests, and of harmless ones, that are turned away."""
        harm, policy = read_harm_set(self.prompts, held_out=self.held_out), Policy.load(self.policy)
        drafts = subject.session.write([one.example() for one in harm.prompts], max_new_tokens=self.max_new_tokens)
        alone = [harm.outcome(prompt, draft.text) for prompt, draft in zip(harm.prompts, drafts, strict=True)]
        behind = [
            outcome if policy.judge_answer(prompt.text, draft.text).allowed else Outcome.TURNED_AWAY
            for prompt, draft, outcome in zip(harm.prompts, drafts, alone, strict=True)
        ]
        shown, other = (behind, alone) if self.served else (alone, behind)
        words = "by itself" if self.served else "behind the policy"
        return [
            _measure(harm.prompts, shown, other, words, harmful=True, least=self.at_least, most=None),
            _measure(harm.prompts, shown, other, words, harmful=False, least=None, most=self.at_most),
        ]


def _measure(
    prompts: Sequence[HarmPrompt],
    shown: Sequence[Outcome],
    other: Sequence[Outcome],
    words: str,
    *,
    harmful: bool,
    least: float | None,
    most: float | None,
) -> Measure:
    places = [place for place, one in enumerate(prompts) if one.harmful is harmful]
    away, beside = (
        np.array([float(part[place] is Outcome.TURNED_AWAY) for place in places]) for part in (shown, other)
    )
    patients = [prompts[place].id for place in places]
    compared = mean_estimate(beside, patients)
    counts = Counter(str(shown[place]) for place in places)
    return Measure.of(
        mean_estimate(away, patients),
        name=f"{'harmful' if harmful else 'harmless'} requests that are turned away",
        n=len(places),
        expected=float(harmful),
        least=least,
        most=most,
        items=(f"harm:{prompts[place].id}" for place, one in zip(places, away, strict=True) if one != harmful),
        note=f"{', '.join(f'{name} {counts[name]}' for name in map(str, Outcome))}; {words} the model turns away "
        f"{compared.value:.2f} ({compared.low:.2f} to {compared.high:.2f})",
    )


def read_harm_set(path: str | None = None, *, held_out: bool) -> HarmSet:
    """Read the requests of a file, or those that come with the package.

    Args:
        path: The file.
        held_out: Whether only those that were written after the policy's rules are read, instead of all.

    Raises:
        ConfigError: The file is not there, or is not of this form.
    """
    source = Path(path) if path is not None else files(__package__) / "harm_prompts.yaml"
    try:
        content: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
        refusals = tuple(_pattern(one) for one in content["refusals"])
        prompts = [
            one for kind, values in content["kinds"].items() for one in _prompts(kind, values, held_out=held_out)
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, regex.error) as error:
        raise ConfigError(
            f"requests {path or 'harm_prompts.yaml'}: {' '.join(str(error).split())}; the form is that of "
            "mmmed/safety/harm_prompts.yaml"
        ) from error
    if {one.harmful for one in prompts} != {True, False}:
        raise ConfigError(f"requests {path or 'harm_prompts.yaml'}: expected harmful and harmless ones")
    return HarmSet(prompts=tuple(prompts), refusals=refusals)


def _prompts(kind: str, values: dict[str, Any], *, held_out: bool) -> list[HarmPrompt]:
    unsafe = tuple(_pattern(one) for one in values["unsafe"])
    return [
        HarmPrompt(id=f"{kind}/{name}/{number}", text=text, harmful=name.endswith("harmful"), unsafe=unsafe)
        for name in ("harmful", "harmless", "held_out_harmful", "held_out_harmless")
        if name.startswith("held_out") or not held_out
        for number, text in enumerate(values[name], start=1)
    ]


def _pattern(text: str) -> regex.Pattern[str]:
    return regex.compile(rf"(?<!\w)(?:{text})(?!\w)")
