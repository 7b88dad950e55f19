"""From an answer on the page to a draft on the desk."""

import hashlib
import io
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from fastapi import Request
from PIL import Image
from starlette.concurrency import run_in_threadpool

from mmmed.records import Example
from mmmed.serving.accounts.rules import check_role
from mmmed.serving.accounts.user import Role
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.desk.harm import Harm

_SIDE = 1536
"""Longest side of a picture on the desk, in pixels."""


class Upload(Protocol):
    """A picture that a visitor has sent."""

    @property
    def code(self) -> str:
        """Its random name."""
        ...

    def header(self) -> bytes:
        """The DICOM object without its pixels; empty for other pictures."""
        ...


class Given(Protocol):
    """An answer as the page has given it."""

    @property
    def owner(self) -> str:
        """To whom."""
        ...

    @property
    def question(self) -> str:
        """In the visitor's words."""
        ...

    @property
    def example(self) -> Example:
        """As the model read it."""
        ...

    @property
    def text(self) -> str:
        """What it said."""
        ...

    @property
    def confidence(self) -> float:
        """Between 0 and 1."""
        ...

    @property
    def pictures(self) -> Sequence[Upload]:
        """What was shown, in the order of the example."""
        ...

    @property
    def study(self) -> str:
        """Under which pseudonym the log of studies has it; empty where it does not."""
        ...


def hands_in(
    desk: Desk, *, model: str, version: str = "", harm: Harm | None = None, keep: Callable[[bytes], bytes] | None = None
) -> Callable[[Request, Given], Awaitable[str]]:
    """What the page hands answers in by.

    Args:
        desk: Where the drafts go.
        model: Name of the model.
        version: Which state of it.
        harm: How bad a wrong answer is, by the harm matrix; 1 for all where there is none.
        keep: Makes of a DICOM object's header what is kept of it; without it none is kept.
    """

    def make(given: Given) -> NewDraft:
        shown = []
        for place, image in enumerate(given.example.images):
            header = given.pictures[place].header() if keep is not None and place < len(given.pictures) else b""
            shown.append(Picture(_png(image.open()), keep(header) if keep is not None and header else b""))
        return NewDraft(
            text=given.text,
            question=given.question,
            model=model,
            model_version=version,
            uncertainty=1 - min(max(given.confidence, 0.0), 1.0),
            harm=harm(given.question, given.text) if harm else 1.0,
            pictures=tuple(shown),
            study=given.study,
        )

    async def hand_in(request: Request, given: Given) -> str:
        login = await check_role(request, Role.READER, Role.RADIOLOGIST)
        draft = await run_in_threadpool(make, given)
        id = await run_in_threadpool(lambda: desk.hand_in(draft, by=login.user.name, request=_once(given)))
        return f"/desk/drafts/{id}"

    return hand_in


def _once(given: Given) -> str:
    """The same for the same answer about the same uploads of the same visitor, which are one draft."""
    told = [given.owner, given.question, given.text, *(upload.code for upload in given.pictures)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _png(picture: Image.Image) -> bytes:
    picture = picture.convert("L" if picture.mode in {"1", "L"} else "RGB")
    picture.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()
