"""DICOM in: objects that come into a folder, by copying or from an archive, are asked about and become drafts."""

import hashlib
import io
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image
from pydicom import Dataset

from mmmed.errors import DataError, ImageError
from mmmed.processing.dicom import DicomImage, read_dataset
from mmmed.processing.dicom.series import dicom_files
from mmmed.records import IMAGE_PLACEHOLDER, Answer, Example, Turn
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.hospital.header import header_of

logger = logging.getLogger(__name__)

_SIDE = 1536
_SETTLED_S = 2.0
"""A file that was not written to for so long is held to be complete."""


class Writer(Protocol):
    """What answers: a `Session`, or what stands for one."""

    def write(self, examples: Sequence[Example], *, max_new_tokens: int = 128) -> list[Answer]:
        """An answer to each question."""
        ...


@dataclass(slots=True, kw_only=True)
class Intake:
    """Makes one draft of each object in a folder, however often it looks.

    What is a draft already is known by the object's UID and the question, in the database; a process that was killed
    goes on where it was. Objects without an image, and damaged ones, are counted and passed over.

    Args:
        folder: Where objects come in; it is read only.
        desk: Where drafts go.
        writer: Answers.
        question: What is asked about each.
        model: Name of the model.
        version: Which state of it.
        harm: How bad a wrong answer to this question is.
        settled: Seconds for which a file must not have been written to.
        wall: Tells the time that files are dated by.
    """

    folder: Path
    desk: Desk
    writer: Writer
    question: str
    model: str
    version: str = ""
    harm: float = 1.0
    settled: float = _SETTLED_S
    wall: Callable[[], float] = time.time
    passed_over: Counter[str] = field(default_factory=Counter)
    _known: set[Path] = field(default_factory=set)

    def look(self) -> int:
        """Hand in what is new, and return how many drafts it made. Raises `DataError` without a folder."""
        made = 0
        for path in self._new():
            try:
                dataset = read_dataset(path, pixels=False)
                made += self._take(path, dataset)
            except ImageError as error:
                # The message names the file, and names of files may be names of patients.
                logger.warning("an object was passed over: %s", type(error).__name__)
                self.passed_over["damaged"] += 1
            self._known.add(path)
        return made

    def _new(self) -> list[Path]:
        try:
            files = dicom_files(self.folder)
        except DataError:
            if self.folder.is_dir():  # nothing has come yet
                return []
            raise
        latest = self.wall() - self.settled
        return [path for path in files if path not in self._known and path.stat().st_mtime <= latest]

    def _take(self, path: Path, dataset: Dataset) -> bool:
        uid = str(dataset.get("SOPInstanceUID") or "")
        if not uid or not dataset.get("StudyInstanceUID") or "Rows" not in dataset:
            self.passed_over["no image of a study"] += 1
            return False
        request = hashlib.sha256(f"{uid}\0{self.question}\0{self.model}\0{self.version}".encode()).hexdigest()
        if self.desk.is_done(request):
            return False
        image = DicomImage(path=path)
        turns = (Turn("user", f"{IMAGE_PLACEHOLDER}\n{self.question}"),)
        example = Example(id=uid, patient="", turns=turns, images=(image,), source="intake")
        (answer,) = self.writer.write([example])
        if not answer.text.strip():
            self.passed_over["the model said nothing"] += 1
            return False
        draft = NewDraft(
            text=answer.text,
            question=self.question,
            model=self.model,
            model_version=self.version,
            uncertainty=1.0 if answer.confidence is None else 1 - answer.confidence,
            harm=self.harm,
            pictures=(Picture(_png(image.open()), header_of(dataset)),),
        )
        self.desk.hand_in(draft, by="intake", request=request)
        return True


def _png(picture: Image.Image) -> bytes:
    picture.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()
