"""A conversation in the terminal, by the same rules as on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mmmed.errors import RecordError
from mmmed.inference.session import Session
from mmmed.processing.dicom.image import DicomImage
from mmmed.processing.image import ImageFile
from mmmed.records import IMAGE_PLACEHOLDER, LazyImage, Turn
from mmmed.safety.policy import Policy
from mmmed.serving.answering.judged import Held
from mmmed.serving.answering.served import question


class Conversation:
    """Questions and answers, each going on from those before.

    Args:
        session: The model.
        policy: Judges what is asked and what is said.
        files: Pictures, the oldest first.
        longest: Longest answer, in tokens.

    Raises:
        ImageError: A picture cannot be read.
    """

    def __init__(self, session: Session, policy: Policy, *, files: Sequence[Path], longest: int) -> None:
        self._session, self._policy, self._longest = session, policy, longest
        self._images: tuple[LazyImage, ...] = ()
        self._turns: list[Turn] = []
        self._begin(files)

    def say(self, line: str) -> Iterator[str]:
        """Answer a line, piece by piece; what may not be said is replaced by the policy's words.

        Raises:
            ImageError: A picture cannot be read.
            RecordError: The conversation is longer than the model reads.
        """
        if line == "/new" or line.startswith("/image "):
            self._begin([Path(line.removeprefix("/image ").strip())] if line != "/new" else [])
            yield "A new conversation."
            return
        if IMAGE_PLACEHOLDER in line:
            raise RecordError(f"{IMAGE_PLACEHOLDER} stands for a picture; name one with /image FILE")
        asked = self._policy.judge_question(line)
        if not asked.allowed:
            yield asked.words
            return
        turns = [*self._turns, Turn("user", line)]
        if not self._turns:
            turns[0] = replace(turns[0], text=f"{IMAGE_PLACEHOLDER}\n" * len(self._images) + line)
        held, said = Held(self._policy, line), ""
        for piece in self._session.stream(question(turns, self._images), max_new_tokens=self._longest):
            text = held.more(piece)
            said += text
            yield text
        text = held.rest()
        yield text
        if held.judgement.allowed:
            self._turns = [*turns, Turn("assistant", said + text)]
        else:
            yield f"\n{held.judgement.words}"

    def _begin(self, files: Sequence[Path]) -> None:
        images = tuple(_image(file) for file in files)
        for image in images:
            image.open()
        self._images, self._turns = images, []


def _image(file: Path) -> LazyImage:
    if file.is_file():
        with file.open("rb") as opened:
            if opened.read(132)[128:] == b"DICM":
                return DicomImage(path=file)
    return ImageFile(file)
