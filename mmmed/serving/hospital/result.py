"""What leaves of a draft, before it takes the form of a standard."""

import uuid
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom import Dataset

from mmmed.errors import SignoffError
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import Event, Facts
from mmmed.serving.desk.outbox import FINAL, PRELIMINARY, WITHDRAWN
from mmmed.serving.desk.states import Act, State

_OURS = uuid.UUID("6f6e3b58-1d5c-5c1b-9c0e-6d6d6d656421")
"""Namespace of all identifiers that are made here; any UUID, but always this one."""

ALLOWED = {
    PRELIMINARY: frozenset({State.DRAFT, State.IN_REVIEW, State.AMENDED}),
    FINAL: frozenset({State.SIGNED}),
    WITHDRAWN: frozenset({State.REJECTED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A draft as it leaves.

    Args:
        kind: preliminary, final or withdrawn.
        facts: What is known of the draft.
        text: The model's text of a preliminary one, the signed text of a final one; nothing of one called back.
        at: When it became so, in UTC.
        signers: The last steps of those who answer for it: nobody for a preliminary one.
        is_amended: Whether a person changed the model's text.
        headers: The DICOM objects that the pictures come from, without pixels.
    """

    kind: str
    facts: Facts
    text: str
    at: str
    signers: tuple[Event, ...] = ()
    is_amended: bool = False
    headers: tuple[Dataset, ...] = ()

    def uuid(self, what: str) -> uuid.UUID:
        """An identifier that is the same whenever it is made for the same thing, so that what is sent twice is one."""
        return uuid.uuid5(_OURS, f"{self.facts.id}:{what}")

    def uid(self, what: str) -> str:
        """The same as a DICOM UID."""
        return f"2.25.{self.uuid(what).int}"


def result_of(desk: Desk, draft: str, kind: str) -> Result:
    """Read what leaves, from the events and not from what the outbox says.

    Raises:
        SignoffError: The draft's events do not allow it to leave so.
    """
    opened = desk.open(draft)
    standing = opened.standing
    if standing.state not in ALLOWED[kind]:
        raise SignoffError(f"draft {draft} is {standing.state} and may not leave as {kind}")
    steps = [event for event in opened.history if event.number is not None]
    headers = (desk.picture(draft, number).header for number in range(len(opened.facts.pictures)))
    signers: list[Event] = []
    if kind == FINAL:
        last = {Act.APPROVED: standing.signed_by[0], Act.SIGNED: standing.signed_by[-1]}
        signers = [event for event in steps if event.actor == last.get(Act(event.act))]
        # Of several approvals (a text that was amended in between) the last one counts.
        signers = list({event.act: event for event in signers}.values())[-len(standing.signed_by) :]
    return Result(
        kind=kind,
        facts=opened.facts,
        text={PRELIMINARY: standing.drafted, FINAL: standing.text}.get(kind, ""),
        at=(steps[0] if kind == PRELIMINARY else steps[-1]).at,
        signers=tuple(signers),
        is_amended=standing.is_amended,
        headers=tuple(pydicom.dcmread(BytesIO(header)) for header in headers if header),
    )
