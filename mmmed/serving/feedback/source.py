"""Amended drafts as a source, so that they pass the privacy gate as all data does."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import pydicom
from PIL import Image
from sqlalchemy import select

from mmmed.data.splits import Fractions, assign
from mmmed.errors import ImageError, RecordError
from mmmed.records import IMAGE_PLACEHOLDER, Example, Quarantined, Turn
from mmmed.serving.database.engine import reading
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.states import State
from mmmed.serving.desk.tables import DRAFTS

TOPIC = "feedback"
FRACTIONS = Fractions(0.7, 0.0, 0.3)
"""Patients that are learned from, and those that the next model is tested on."""


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """A picture out of the database."""

    content: bytes

    @property
    def name(self) -> str:
        """Identifies the content."""
        return hashlib.sha256(self.content).hexdigest()

    def open(self) -> Image.Image:
        """Decode it. Raises `ImageError`."""
        try:
            picture = Image.open(io.BytesIO(self.content))
            return picture.convert("L" if picture.mode in {"1", "L"} else "RGB")
        except (OSError, ValueError) as error:
            raise ImageError(f"a picture of a draft cannot be decoded ({type(error).__name__})") from None


class Amendments:
    """Signed reports whose text is another than the model's: the signed one is the better answer.

    Args:
        desk: Where they were signed.
        seed: Changes which patients are tested on.
    """

    name = "feedback"

    def __init__(self, desk: Desk, *, seed: int = 0) -> None:
        self._desk = desk
        self._seed = seed

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield one pair for each amended report, in the order in which drafts were handed in."""
        signed = select(DRAFTS.c.id).where(DRAFTS.c.state == str(State.SIGNED)).order_by(DRAFTS.c.made_at, DRAFTS.c.id)
        with reading(self._desk.engine) as connection:
            ids = connection.execute(signed).scalars().all()
        for id in ids:
            opened = self._desk.open(id)
            if not opened.standing.is_amended:
                continue
            try:
                yield self._example(id)
            except RecordError as error:
                yield Quarantined(self.name, id, str(error))

    def _example(self, id: str) -> Example:
        opened = self._desk.open(id)
        standing, question = opened.standing, opened.facts.question
        if IMAGE_PLACEHOLDER in question + standing.text + standing.drafted:
            raise RecordError(f"a text holds {IMAGE_PLACEHOLDER!r}, which stands for pictures")
        if not question.strip():
            raise RecordError("the draft has no question that it answers")
        kept = [self._desk.picture(id, number) for number in range(len(opened.facts.pictures))]
        headers = [pydicom.dcmread(io.BytesIO(one.header)) for one in kept if one.header]
        patient = next((str(header.PatientID) for header in headers if header.get("PatientID")), id)
        return Example(
            id=id,
            patient=patient,
            turns=(
                Turn("user", f"{IMAGE_PLACEHOLDER}\n" * len(kept) + question),
                Turn("assistant", standing.text, rejected=standing.drafted),
            ),
            images=tuple(KeptPicture(one.shown) for one in kept),
            topic=TOPIC,
            split=assign(patient, seed=self._seed, fractions=FRACTIONS),
            source=self.name,
            attributes=dict(opened.facts.attributes),
        )
