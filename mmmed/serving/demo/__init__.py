"""The page on which a model is asked about pictures."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mmmed.serving.web.pages import page
from mmmed.serving.web.parts import Link, Part
from mmmed.serving.web.visitor import Asking


def demo_part(checkpoint: str) -> Part:
    """The page at `/`, for one checkpoint."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse)
    async def start(request: Request, asking: Asking) -> HTMLResponse:
        """The page."""
        return page(request, "demo.html.j2", checkpoint=checkpoint)

    return Part(name="demo", router=router, room=__name__, link=Link("/", "Ask"))
