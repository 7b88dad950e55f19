"""The rules of sign-off as a pure function: from a draft as it is and what somebody does to the draft as it becomes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from mmmed.errors import SignoffError


class State(StrEnum):
    """Where a draft is on its way."""

    DRAFT = "draft"
    IN_REVIEW = "in review"
    AMENDED = "amended"
    SIGNED = "signed"
    REJECTED = "rejected"


class Act(StrEnum):
    """What can happen to a draft."""

    DRAFTED = "drafted"
    TAKEN = "taken"
    RETURNED = "returned"
    AMENDED = "amended"
    APPROVED = "approved"
    SIGNED = "signed"
    REJECTED = "rejected"


FINAL = frozenset({State.SIGNED, State.REJECTED})
_FROM: Mapping[Act, frozenset[State]] = {
    Act.TAKEN: frozenset({State.DRAFT, State.AMENDED, State.IN_REVIEW}),
    Act.RETURNED: frozenset({State.IN_REVIEW, State.AMENDED}),
    Act.AMENDED: frozenset({State.IN_REVIEW, State.AMENDED}),
    Act.APPROVED: frozenset({State.IN_REVIEW, State.AMENDED}),
    Act.SIGNED: frozenset({State.IN_REVIEW, State.AMENDED}),
    Act.REJECTED: frozenset({State.IN_REVIEW, State.AMENDED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that somebody did.

    Args:
        act: What.
        actor: Who: the name of an account, or the model's for a draft.
        text: The report's text, where it is new: of a draft and of an amendment.
        reason: Why, of a rejection or an amendment.
    """

    act: Act
    actor: str
    text: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a draft stands after some steps.

    Args:
        state: Where it is on its way.
        drafted: The text as the model wrote it.
        text: The text as it is now.
        holder: Who reviews it now; empty for nobody.
        approved_by: Who has approved this very text and waits for a second person.
        signed_by: Who answers for the text; two people under the two-person rule.
        reason: Why it was rejected.
        steps: How many steps there were.
    """

    state: State
    drafted: str
    text: str
    holder: str = ""
    approved_by: str = ""
    signed_by: tuple[str, ...] = ()
    reason: str = ""
    steps: int = 1

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state in FINAL

    @property
    def is_amended(self) -> bool:
        """Whether the text is another than the model's."""
        return self.text != self.drafted


def advance(standing: Standing | None, step: Step, *, two_people: bool = False) -> Standing:
    """How a draft stands after one more step.

    Args:
        standing: Before; None before the draft itself.
        step: What is done.
        two_people: Whether a signature needs another person's approval of the same text first.

    Raises:
        SignoffError: The state, the reviewer or the text does not allow the step.
    """
    if standing is None:
        if step.act is not Act.DRAFTED:
            raise SignoffError("there is no such draft")
        return Standing(state=State.DRAFT, drafted=_given(step), text=_given(step))
    if standing.is_final:
        raise SignoffError(f"the draft is {standing.state} already; nothing more can be done to it")
    if step.act is Act.DRAFTED:
        raise SignoffError("the draft is there already")
    if standing.state not in _FROM[step.act]:
        raise SignoffError(f"a draft in the state {standing.state!r} cannot be {step.act}; take it into review first")
    if step.act is Act.TAKEN:
        state = State.AMENDED if standing.is_amended else State.IN_REVIEW
        return _after(standing, state=state, holder=step.actor)
    if standing.holder != step.actor:
        holder = standing.holder or "nobody"
        raise SignoffError(f"the draft is in review by {holder}; {step.actor} takes it into review first")
    match step.act:
        case Act.RETURNED:
            state = State.AMENDED if standing.is_amended else State.DRAFT
            return _after(standing, state=state, holder="")
        case Act.AMENDED:
            if _given(step) == standing.text:
                raise SignoffError("the amended text is the same as before; change it, or sign it as it is")
            # An approval is of one text; another text needs another.
            return _after(standing, state=State.AMENDED, text=step.text, approved_by="")
        case Act.APPROVED:
            if not two_people:
                raise SignoffError("one signature is enough here; sign")
            if standing.approved_by:
                raise SignoffError(f"{standing.approved_by} has approved this text already; a second person signs it")
            return _after(standing, approved_by=step.actor, holder="")
        case Act.SIGNED:
            return _after(standing, state=State.SIGNED, holder="", signed_by=_signers(standing, step, two_people))
        case Act.REJECTED:
            if not step.reason.strip():
                raise SignoffError("a rejection needs its reason; say what is wrong with the draft")
            return _after(standing, state=State.REJECTED, holder="", reason=step.reason)
    raise AssertionError(step.act)


def fold(steps: Iterable[Step]) -> Standing:
    """How a draft stands after all its steps.

    The two-person rule says what may be done, not how what was done is read: an approval that is there was asked for.

    Raises:
        SignoffError: The steps are none that the rules allow.
    """
    standing: Standing | None = None
    for step in steps:
        standing = advance(standing, step, two_people=step.act is Act.APPROVED)
    if standing is None:
        raise SignoffError("there is no such draft")
    return standing


def _signers(standing: Standing, step: Step, two_people: bool) -> tuple[str, ...]:
    if standing.approved_by and standing.approved_by != step.actor:
        return (standing.approved_by, step.actor)
    if not two_people:
        return (step.actor,)
    if not standing.approved_by:
        raise SignoffError("two people sign here; approve the text, and another person signs it")
    raise SignoffError("two people sign here; the second signature is another person's")


def _given(step: Step) -> str:
    if not step.text.strip():
        raise SignoffError("the text of a report is empty; write it, or reject the draft")
    return step.text


def _after(standing: Standing, **changes: object) -> Standing:
    return replace(standing, steps=standing.steps + 1, **changes)  # type: ignore[arg-type]
