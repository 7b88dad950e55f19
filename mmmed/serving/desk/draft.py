"""What is handed in for sign-off, and what is found again."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmmed.errors import SignoffError
from mmmed.serving.desk.states import Standing

LONGEST_TEXT = 50_000


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a draft.

    Args:
        shown: PNG or JPEG for the page.
        header: The DICOM object it comes from, without its pixels; empty where it comes from none.
    """

    shown: bytes
    header: bytes = b""

    @property
    def digest(self) -> str:
        """SHA-256 of both."""
        both = len(self.shown).to_bytes(8, "big") + self.shown + self.header
        return hashlib.sha256(both).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDraft:
    """What a model said to a question, for a person to judge.

    Args:
        text: What it said.
        question: What it was asked.
        model: Which model: its name.
        model_version: Which state of it, such as a digest of its weights.
        uncertainty: How unsure it is, from 0 to 1; 1 where it does not say.
        harm: How bad it is if this is wrong, from 0, by the harm matrix; 1 where there is none.
        pictures: What was shown to it.
        attributes: Known facts, such as `{"sex": "F"}`; kept for the audit of agreement by subgroup.
        study: Under which pseudonym the log of studies has the question; empty where it does not.

    Raises:
        SignoffError: The text is empty or too long, or a number is out of its range.
    """

    text: str
    question: str
    model: str
    model_version: str = ""
    uncertainty: float = 1.0
    harm: float = 1.0
    pictures: tuple[Picture, ...] = ()
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    study: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise SignoffError("the draft is empty; there is nothing to sign")
        if max(len(self.text), len(self.question)) > LONGEST_TEXT:
            raise SignoffError(f"a draft or question has more than {LONGEST_TEXT} characters")
        if not 0 <= self.uncertainty <= 1:
            raise SignoffError(f"uncertainty is {self.uncertainty}; expected 0 to 1")
        if not (self.harm >= 0 and math.isfinite(self.harm)):
            raise SignoffError(f"harm is {self.harm}; expected a number from 0")

    @property
    def priority(self) -> float:
        """What it may cost to look at this late; the queue begins with the largest."""
        return self.uncertainty * self.harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a draft since it was handed in; as of `NewDraft`, with who handed it in, and when."""

    id: str
    made_at: str
    made_by: str
    question: str
    model: str
    model_version: str
    uncertainty: float
    harm: float
    pictures: tuple[str, ...]
    attributes: Mapping[str, str | float]
    study: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of the history.

    Args:
        number: Of the step; None for one that changed nothing.
        act: What was done, or `seen`.
        actor: By whom.
        at: When, in UTC.
        text: The text, where it was new.
        reason: Why.
        full_name: Of the actor, as it was then.
        identifier: The actor's number in the register, as it was then.
    """

    number: int | None
    act: str
    actor: str
    at: str
    text: str = ""
    reason: str = ""
    full_name: str = ""
    identifier: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A draft with its history.

    Args:
        facts: What is known of it.
        standing: How it stands.
        history: Everything that happened, the oldest first.
        holder: Who may work on it now; empty for nobody.
        until: For how long.
    """

    facts: Facts
    standing: Standing
    history: tuple[Event, ...]
    holder: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A draft in the queue."""

    id: str
    made_at: str
    state: str
    question: str
    priority: float
    approved_by: str
    holder: str
