"""What is answered and what is logged when something goes wrong: never what a visitor sent."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmmed.errors import MmmedError
from mmmed.serving.refusals import Refusal
from mmmed.serving.web.visitor import LoginNeeded

logger = logging.getLogger(__name__)


def add_faults(app: FastAPI, *, login: str) -> None:
    """Answer every kind of fault in one form: `{"detail": one line}`."""

    async def invalid(request: Request, error: Exception) -> Response:
        # What was sent is not sent back: it would end up in the logs of whoever sends.
        assert isinstance(error, RequestValidationError)
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return JSONResponse({"detail": told}, status_code=422)

    async def mistaken(request: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, Refusal) else 422
        headers = {"Retry-After": "10"} if status == 503 else None
        return JSONResponse({"detail": str(error)}, status_code=status, headers=headers)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)

    async def nobody(request: Request, error: Exception) -> Response:
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(login, status_code=303) if login else Response(status_code=401)
        return JSONResponse({"detail": "log in first"}, status_code=401)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(MmmedError, mistaken)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(LoginNeeded, nobody)


class QuietFaults:
    """Answers 500 for a defect of ours, and logs its kind and place, but neither its message nor any value."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_answered = False

        async def watched(message: Message) -> None:
            nonlocal is_answered
            is_answered = is_answered or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http":
                raise
            logger.error("defect: %s at %s", type(error).__name__, place_of(error))
            if not is_answered:
                await JSONResponse({"detail": "a defect of the server"}, status_code=500)(scope, receive, send)


def place_of(error: BaseException) -> str:
    """Where an error was raised, from the outside to the inside, without any value."""
    frames: Any = traceback.extract_tb(error.__traceback__)[-4:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
