"""The routes of the page: pictures in and out, questions, maps, drafts."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from mmmed.processing.dicom.windows import CT_WINDOWS
from mmmed.serving.answering.served import Served
from mmmed.serving.demo.answers import Draft, GivenAnswers
from mmmed.serving.demo.asking import Ask, ShownPicture, events, put_question
from mmmed.serving.demo.occlusion import occlusion_map
from mmmed.serving.monitoring.study_log import StudyLog
from mmmed.serving.uploads.folder import Upload, Uploads
from mmmed.serving.web.guards import asks_allowed, uploads_allowed
from mmmed.serving.web.pages import page
from mmmed.serving.web.parts import Link, Part
from mmmed.serving.web.seen import SeenLog
from mmmed.serving.web.visitor import Asking

SIDE = 1536
"""Longest side of a picture on the page, in pixels; the model sees the whole."""


class OfAnswer(BaseModel):
    """Which answer is meant."""

    model_config = ConfigDict(extra="forbid")
    answer: str = Field(max_length=64)
    place: int = Field(0, ge=0, lt=8)


def demo_part(
    served: Served, uploads: Uploads, seen: SeenLog, log: StudyLog, *, draft: Draft | None = None, sure: float = 0.6
) -> Part:
    """The page at `/`.

    Args:
        served: The model.
        uploads: Where pictures are kept; the interface's part keeps them open.
        seen: Who saw what.
        log: Where studies are written down for monitoring.
        draft: Hands an answer in for sign-off; None leaves that off the page.
        sure: Confidence below which the model is held not to know.
    """
    router = APIRouter()
    answers = GivenAnswers()
    _add_page(router, served, has_draft=draft is not None, sure=sure)
    _add_pictures(router, uploads, seen)
    _add_questions(router, served, uploads, seen, answers, log, sure=sure)
    if draft is not None:
        _add_drafts(router, answers, seen, draft)
    return Part(name="demo", router=router, room="mmmed.serving.demo", link=Link("/", "Ask"))


def _add_page(router: APIRouter, served: Served, *, has_draft: bool, sure: float) -> None:
    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def start(request: Request, asking: Asking) -> HTMLResponse:
        return page(request, "demo.html.j2", served=served, has_draft=has_draft, sure=sure)


def _add_pictures(router: APIRouter, uploads: Uploads, seen: SeenLog) -> None:
    @router.post("/demo/pictures", tags=["pictures"])
    async def send(request: Request, asking: Asking) -> dict[str, Any]:
        """Take in one picture, which is the body; it is read, kept for an hour and seen by nobody else."""
        uploads_allowed(request, asking)
        upload = await uploads.add(request.stream(), owner=asking.name)
        seen.note(asking.name, "sent", upload.code, sha256=upload.digest)
        return _told(upload)

    @router.get("/demo/pictures/{code}", tags=["pictures"], response_class=Response)
    async def show(code: str, asking: Asking, shown: Annotated[_Shown, Query()]) -> Response:
        """A frame as PNG, through a window where one is given."""
        upload = uploads.get(code, owner=asking.name)
        frame = upload.frame(shown.frame, ShownPicture(code="", **shown.model_dump()).window())
        seen.note(asking.name, "saw", upload.code, frame=shown.frame)
        return Response(await run_in_threadpool(lambda: _png(frame.open())), media_type="image/png")

    @router.delete("/demo/pictures/{code}", tags=["pictures"], status_code=204)
    async def remove(code: str, asking: Asking) -> None:
        """Let a picture go."""
        uploads.remove(code, owner=asking.name)
        seen.note(asking.name, "removed", code)


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid")
    frame: int = Field(0, ge=0, lt=10_000)
    center: float | None = Field(None, ge=-1e6, le=1e6, allow_inf_nan=False)
    width: float | None = Field(None, ge=1e-3, le=1e6, allow_inf_nan=False)


def _add_questions(
    router: APIRouter,
    served: Served,
    uploads: Uploads,
    seen: SeenLog,
    answers: GivenAnswers,
    log: StudyLog,
    *,
    sure: float,
) -> None:
    @router.post("/demo/ask", tags=["answers"], response_class=StreamingResponse)
    async def ask(request: Request, body: Ask, asking: Asking) -> StreamingResponse:
        """Answer a question, as server-sent events `passages`, `text`, `ended` and `fault`."""
        asks_allowed(request, asking)
        put = put_question(served, uploads, body, owner=asking.name)
        seen.note(asking.name, "asked", " ".join(upload.code for upload in put.pictures) or "no picture")

        async def lines() -> AsyncIterator[str]:
            async for name, told in events(served, answers, log, put, body, owner=asking.name, sure=sure):
                if name == "ended" and "answer" in told:
                    seen.note(asking.name, "was answered", told["answer"])
                yield f"event: {name}\ndata: {json.dumps(told)}\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    @router.post("/demo/map", tags=["answers"])
    async def explain(request: Request, body: OfAnswer, asking: Asking) -> dict[str, Any]:
        """How much less likely an answer is when each square of a picture is hidden."""
        asks_allowed(request, asking)
        given = answers.get(body.answer, owner=asking.name)
        drops = await occlusion_map(served.engine, given.example, given.text, place=body.place)
        return {"drops": drops}


def _add_drafts(router: APIRouter, answers: GivenAnswers, seen: SeenLog, draft: Draft) -> None:
    @router.post("/demo/drafts", tags=["answers"])
    async def hand_in(request: Request, body: OfAnswer, asking: Asking) -> JSONResponse:
        """Hand an answer in for sign-off by a named person."""
        given = answers.get(body.answer, owner=asking.name)
        path = await draft(request, given)
        seen.note(asking.name, "handed in", body.answer)
        return JSONResponse({"path": path}, status_code=201)


def _told(upload: Upload) -> dict[str, Any]:
    about = dict(upload.about)
    presets = CT_WINDOWS if about.get("modality") == "CT" else {}
    about["presets"] = [
        {"name": name.replace("_", " "), "center": window.center, "width": window.width}
        for name, window in presets.items()
    ]
    return {"code": upload.code, **about}


def _png(picture: Image.Image) -> bytes:
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
