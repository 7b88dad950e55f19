"""What a route asks before it does something that costs: whether the visitor may, and whether there is room."""

from __future__ import annotations

from fastapi import HTTPException, Request

from mmmed.serving.web.limits import Allowance, retry_after
from mmmed.serving.web.visitor import Visitor


def asks_allowed(request: Request, asking: Visitor) -> None:
    """Count a question of a visitor. Raises `HTTPException` (429) where there were too many."""
    _take(request.app.state.asks, request, asking)


def uploads_allowed(request: Request, asking: Visitor) -> None:
    """Count a picture of a visitor. Raises `HTTPException` (429) where there were too many."""
    _take(request.app.state.uploads_allowed, request, asking)


def _take(allowance: Allowance, request: Request, asking: Visitor) -> None:
    # A browser that drops its cookie is no new visitor.
    is_known = not asking.name.startswith("visit:")
    wait = allowance.take(asking.name if is_known else f"address:{request.client.host if request.client else ''}")
    if wait:
        raise HTTPException(429, f"too many at once; wait {wait:.0f} s", retry_after(wait))
