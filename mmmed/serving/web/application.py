"""The application: parts put together, behind the same guards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from mmmed.errors import ConfigError
from mmmed.serving.web.faults import QuietFaults, add_faults
from mmmed.serving.web.headers import OwnSendersOnly, SafeHeaders
from mmmed.serving.web.limits import Allowance, SizeLimit
from mmmed.serving.web.pages import ROOM, Pages, static_folder
from mmmed.serving.web.parts import Part
from mmmed.serving.web.settings import TOKEN, Settings, token
from mmmed.serving.web.traffic import Traffic
from mmmed.version import VERSION

UPLOADS = "/demo/pictures"
"""Where pictures are sent to, which may be larger than other requests."""


def make_application(settings: Settings, parts: Sequence[Part]) -> FastAPI:
    """Put parts together behind one set of guards.

    Args:
        settings: Where it listens and how much it takes.
        parts: What it does, in the order of the navigation.

    Raises:
        ConfigError: It would be open to a network without accounts or a token, two parts have one name, or two say
            who is asking.
    """
    _check(settings, parts)
    secret = token()
    identifying = next((part for part in parts if part.identify), None)
    if not settings.is_loopback and identifying is None and secret is None:
        raise ConfigError(
            f"host {settings.host} is open to a network: attach accounts, or set {TOKEN} for programs; "
            "127.0.0.1 needs neither"
        )

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in parts:
                if part.running:
                    await stack.enter_async_context(part.running(app))
            yield

    # The interactive pages of FastAPI fetch scripts from elsewhere; the description itself stays.
    app = FastAPI(title="mmmed", version=VERSION, lifespan=running, docs_url=None, redoc_url=None)
    app.state.settings = settings
    app.state.token = secret
    app.state.identify = identifying.identify if identifying else None
    app.state.pages = Pages(parts)
    app.state.asks = Allowance(at_once=settings.asks_at_once, per_minute=settings.asks_per_minute)
    app.state.uploads_allowed = Allowance(at_once=settings.uploads_at_once, per_minute=settings.uploads_per_minute)
    traffic = Traffic()
    app.state.traffic = traffic
    add_faults(app, login=identifying.login if identifying else "")
    # Those added last are outermost: every answer, refusals too, has the headers and is counted.
    app.add_middleware(SizeLimit, most=settings.request_bytes, larger={UPLOADS: settings.upload_bytes})
    app.add_middleware(OwnSendersOnly, hosts=settings.hosts)
    app.add_middleware(QuietFaults)
    app.add_middleware(traffic.counting)
    app.add_middleware(SafeHeaders)

    @app.get("/health", tags=["state"])
    async def health() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok", "version": VERSION}

    for part in parts:
        app.include_router(part.router)
    app.mount("/static/page", StaticFiles(directory=Path(str(files("mmmed.page"))) / "templates"), name="style")
    for name, room in [("web", ROOM), *((part.name, part.room) for part in parts if part.room)]:
        if folder := static_folder(room):
            app.mount(f"/static/{name}", StaticFiles(directory=folder), name=f"files of {name}")
    return app


def _check(settings: Settings, parts: Sequence[Part]) -> None:
    names = [part.name for part in parts]
    if twice := {name for name in names if names.count(name) > 1} | ({"web", "page"} & set(names)):
        raise ConfigError(f"two parts of the server are called {min(twice)}; give each a name of its own")
    identifying = [part.name for part in parts if part.identify]
    if len(identifying) > 1:
        raise ConfigError(f"{' and '.join(identifying)} both say who is asking; attach one of them")
    for part in parts:
        if bool(part.identify) != bool(part.login):
            raise ConfigError(f"part {part.name}: identify and login go together")
