"""Pages of the server: templates of all parts over one frame, with nothing inline and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from mmmed.page.html import environment
from mmmed.serving.web.parts import Part
from mmmed.serving.web.visitor import know_again

ROOM = "mmmed.serving.web"


class Pages:
    """Renders templates; every page is given the request, the parts' links and who is asking.

    Args:
        parts: Whose templates there are; one of a later part does not hide one of the same name in an earlier one.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._environment = environment(*dict.fromkeys([ROOM, *(part.room for part in parts if part.room)]))
        self._links = [part.link for part in parts if part.link]
        self._logout = next((part.logout for part in parts if part.logout), "")

    def response(self, request: Request, template: str, *, status: int = 200, **content: Any) -> HTMLResponse:
        """A page as an answer. All text is escaped, and what the template asks for must be given."""
        html = self._environment.get_template(template).render(
            links=self._links,
            here=request.url.path,
            identity=getattr(request.state, "identity", None),
            logout=self._logout,
            **content,
        )
        return HTMLResponse(html.encode("utf-8", "replace"), status_code=status)


def static_folder(room: str) -> Path | None:
    """The folder of a package's scripts and styles, if it has one."""
    folder = Path(str(files(room))) / "static"
    return folder if folder.is_dir() else None


def page(request: Request, template: str, *, status: int = 200, **content: Any) -> HTMLResponse:
    """Render a template of any part as the answer to a request."""
    pages: Pages = request.app.state.pages
    answer = pages.response(request, template, status=status, **content)
    if (code := getattr(request.state, "new_visit", None)) is not None:
        know_again(answer, code)
    return answer
