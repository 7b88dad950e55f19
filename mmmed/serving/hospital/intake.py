"""DICOM in: objects that come into a folder, by copying or from an archive, are asked about and become drafts."""

import hashlib
import io
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL import Image
from pydicom import Dataset

from mmmed.errors import DataError, ImageError
from mmmed.processing.dicom import DicomImage, read_dataset
from mmmed.processing.dicom.series import dicom_files
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn
from mmmed.serving.answering.alone import Written
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.desk.harm import Harm
from mmmed.serving.hospital.header import header_of
from mmmed.serving.monitoring.study_log import study_code

logger = logging.getLogger(__name__)

LONGEST = 128
"""Tokens of an answer."""
_SIDE = 1536
_SETTLED_S = 2.0
"""A file that was not written to for so long is held to be complete."""


Writer = Callable[[Example], Written]
"""What answers a question."""


class Log(Protocol):
    """What is told of each study that was answered."""

    def taken_in(self, code: str, example: Example, written: Written, *, question: str, latency: float) -> None:
        """Write a study down under its pseudonym."""
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
        harm: How bad a wrong answer is, by the harm matrix; 1 for all where there is none.
        log: Told of each study that was answered, for monitoring.
        settled: Seconds for which a file must not have been written to.
        wall: Tells the time that files are dated by.
    """

    folder: Path
    desk: Desk
    writer: Writer
    question: str
    model: str
    version: str = ""
    harm: Harm | None = None
    log: Log | None = None
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
        began = time.monotonic()
        answer = self.writer(example)
        latency = time.monotonic() - began
        if not answer.text.strip():
            self.passed_over["the model said nothing"] += 1
            return False
        code = study_code(hashlib.sha256(path.read_bytes()).hexdigest()) if self.log is not None else ""
        draft = NewDraft(
            text=answer.text,
            question=self.question,
            model=self.model,
            model_version=self.version,
            uncertainty=1 - min(max(answer.confidence, 0.0), 1.0),
            harm=self.harm(self.question, answer.text) if self.harm else 1.0,
            pictures=(Picture(_png(image.open()), header_of(dataset)),),
            study=code,
        )
        if self.log is not None:
            self.log.taken_in(code, example, answer, question=self.question, latency=latency)
        self.desk.hand_in(draft, by="intake", request=request)
        return True


def _png(picture: Image.Image) -> bytes:
    picture.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()
