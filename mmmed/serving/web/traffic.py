"""Counts of requests and their latencies, by route and never by address, as Prometheus reads them."""

from __future__ import annotations

import logging
import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

SECONDS = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class Traffic:
    """What the server has answered so far. Parts add what they count to `registry`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mmmed_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "mmmed_request_seconds",
            "Seconds until a request was answered to its end.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All counts in Prometheus' text format."""
        return generate_latest(self.registry)

    def counting(self, app: ASGIApp) -> ASGIApp:
        """The application, counted."""
        return _Counting(app, self)

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request by the route it took. Addresses and queries are kept nowhere: they may hold anything."""
        route = scope.get("route")
        path = str(getattr(route, "path", "none"))
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        logger.info("%s %s %d %.0f ms", method, path, status, seconds * 1000)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Counting:
    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app, self._traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 499, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._traffic.answered(scope, status, time.perf_counter() - started)
