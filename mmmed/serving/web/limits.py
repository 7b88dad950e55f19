"""How much one visitor may ask for, and how large a request may be."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

VISITORS_KEPT = 10_000


class Allowance:
    """A bucket of tokens for each visitor: a burst is allowed, and then so many a minute.

    Args:
        at_once: Size of the bucket.
        per_minute: How fast it fills.
        clock: Seconds that only go on.
    """

    def __init__(self, *, at_once: int, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._rate, self._clock = float(at_once), per_minute / 60, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, visitor: str) -> float:
        """Take one; 0 where there was one, else the seconds after which there will be."""
        now = self._clock()
        left, since = self._buckets.get(visitor, (self._size, now))
        left = min(self._size, left + (now - since) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._buckets[visitor] = (left - 1 if not wait else left, now)
        self._buckets.move_to_end(visitor)
        # Who comes back after so many others finds a full bucket, which harms less than memory without bounds.
        while len(self._buckets) > VISITORS_KEPT:
            self._buckets.popitem(last=False)
        return wait


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when to come again."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


class SizeLimit:
    """Cuts off requests that are larger than allowed, whether or not they say so beforehand.

    Args:
        most: Bytes of a request.
        larger: Bytes of requests to some paths, which may be larger.
    """

    def __init__(self, app: ASGIApp, *, most: int, larger: dict[str, int]) -> None:
        self._app = app
        self._most, self._larger = most, larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._larger.get(scope["path"], self._most)
        told = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        refusal = JSONResponse(
            {"detail": f"larger than the {most} bytes that are taken"}, status_code=413, headers={"Connection": "close"}
        )
        if not told.isdigit() or int(told) > most:
            await refusal(scope, receive, send)
            return
        seen = 0
        is_answered = False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > most:
                    raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal is_answered
            is_answered = is_answered or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _TooLarge:
            if not is_answered:
                await refusal(scope, receive, send)


class _TooLarge(Exception):
    """More was sent than is taken."""
