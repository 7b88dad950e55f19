"""What a model may be asked and may say: rules in YAML that let through, refuse, or call a person.

It fails closed. A text that the rules cannot read is not let through, and whatever goes wrong while they are applied
refuses. The rules know English: another language passes unread unless it has another alphabet.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmmed.safety.policy_rules import Decision, RuleFile, read_rules

FOREIGN = 0.3
"""Share of letters of another alphabet than the Latin one from which on a text is not read."""

LONGEST_WORD = 60
"""Letters from which on a word is held for something that was encoded."""

_STRICTNESS = list(Decision)
_SPACED = re.compile(r"\b(?:\w[ .\-_*]){3,}\w\b")
_LETTERS = [str.maketrans("013457@$", f"o{one}eastas") for one in "il"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the policy says of a text.

    Args:
        decision: What may happen with it.
        words: What to tell the user instead; empty where the text may stand.
        rules: Names of the rules that spoke, the strictest first.
    """

    decision: Decision
    words: str = ""
    rules: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the text may stand as it is."""
        return self.decision is Decision.ALLOW


class Policy:
    """Judges questions before a model sees them, and drafts before a user does.

    Args:
        described: The rules and what is said where they do not apply.
    """

    def __init__(self, described: RuleFile) -> None:
        self.name, self.version = described.name, described.version
        self._described = described
        self._unread = Judgement(decision=Decision.NEEDS_PERSON, words=described.unread, rules=("unread",))
        self._failed = Judgement(decision=Decision.REFUSE, words=described.failed, rules=("failed",))

    @classmethod
    def load(cls, path: str | Path | None = None) -> Policy:
        """The policy of a file, or the one that comes with the package.

        Raises:
            ConfigError: The file is not there, or something in it cannot be used.
        """
        return cls(read_rules(path))

    def judge_question(self, text: str) -> Judgement:
        """What may happen with what a user asks, or with a document that comes with it."""
        return self._closed(lambda: self._strictest("question", text))

    def judge_answer(self, question: str, text: str) -> Judgement:
        """What may happen with a draft; one to a question that may not be answered may not stand either."""
        return self._closed(lambda: stricter(self._strictest("question", question), self._strictest("answer", text)))

    def _closed(self, judge: Callable[[], Judgement]) -> Judgement:
        # Whatever the fault is: a text that was not judged is not let through.
        try:
            return judge()
        except Exception:
            return self._failed

    def _strictest(self, kind: str, text: str) -> Judgement:
        if not is_readable(text, longest=self._described.longest):
            return self._unread
        readings = readings_of(text)
        speaking = [rule for rule in self._described.rules if kind in rule.judges and rule.speaks(readings)]
        if not speaking:
            return Judgement(decision=Decision.ALLOW)
        speaking.sort(key=lambda rule: _STRICTNESS.index(rule.decision), reverse=True)
        return Judgement(
            decision=speaking[0].decision, words=speaking[0].words, rules=tuple(rule.name for rule in speaking)
        )


def stricter(first: Judgement, second: Judgement) -> Judgement:
    """The stricter of two judgements; of equal ones the first."""
    return max(first, second, key=lambda one: _STRICTNESS.index(one.decision))


def is_readable(text: str, *, longest: int) -> bool:
    """Whether rules for English words can say anything of a text: it is not empty, endless, encoded or foreign."""
    letters = [letter for letter in text if letter.isalpha()]
    if len(text) > longest or not any(letter.isalnum() for letter in text):
        return False
    if any(len(word) > LONGEST_WORD for word in text.split()):
        return False
    foreign = sum("LATIN" not in unicodedata.name(letter, "") for letter in letters)
    return foreign <= FOREIGN * len(letters)


def readings_of(text: str) -> tuple[str, ...]:
    """A text as rules read it: plain, and with letters that were spaced out or written as digits put back."""
    even = unicodedata.normalize("NFKC", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    plain = " ".join("".join(letter for letter in even if unicodedata.category(letter) != "Cf").casefold().split())
    whole = _SPACED.sub(lambda found: re.sub(r"[\W_]", "", found[0]), plain)
    return tuple(dict.fromkeys([plain, whole, *(whole.translate(letters) for letters in _LETTERS)]))
