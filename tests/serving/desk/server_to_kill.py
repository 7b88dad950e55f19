"""A server of sign-off and uploads in a process of its own, which dies when a request says so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from sqlalchemy.engine import make_url

from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.part import accounts_part
from mmmed.serving.database.engine import open_database
from mmmed.serving.desk import desk as desk_room
from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.desk.part import desk_part
from mmmed.serving.uploads.folder import Uploads
from mmmed.serving.web.application import make_application
from mmmed.serving.web.parts import Part
from mmmed.serving.web.seen import SeenLog
from mmmed.serving.web.server import serve
from mmmed.serving.web.settings import Settings
from tests.serving.conftest import CHEAP, ReaderHere

from .moments import Moments, Watching

UPLOADS, SEEN = "uploads", "seen.jsonl"


class DyingReader(ReaderHere):
    """Reads, and dies where it is wanted."""

    def __init__(self, moments: Moments) -> None:
        super().__init__(0)
        self._moments = moments

    async def read(self, file: Path, folder: Path) -> dict[str, Any]:
        self._moments.begins()
        read = await super().read(file, folder)
        self._moments.is_done()
        return read


def run(url: str, port: int, two_people: bool) -> None:
    """Serve until killed."""
    moments = Moments()
    desk_room.writing = moments.watched(desk_room.writing)  # type: ignore[assignment]
    engine = open_database(url)
    desk = Desk(engine, rules=Rules(two_people=two_people, destinations=("dicom", "fhir")))
    folder = Path(make_url(url).database or "").parent
    uploads, seen = Uploads(folder / UPLOADS, reader=DyingReader(moments)), SeenLog(folder / SEEN)
    router = APIRouter()

    @router.post("/hand_in/{request}")
    def hand_in(request: str) -> dict[str, str]:
        film = Picture(b"\x89PNG" + bytes(200_000), b"header")
        draft = NewDraft(text="No effusion.", question="What?", model="tiny", pictures=(film,))
        return {"id": desk.hand_in(draft, by="rita", request=request)}

    @router.post("/upload")
    async def send(request: Request) -> dict[str, str]:
        upload = await uploads.add(request.stream(), owner="anna")
        seen.note("anna", "sent", upload.code, sha256=upload.digest)
        return {"code": upload.code}

    @router.get("/measured")
    def measured() -> dict[str, float]:
        return moments.measured

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with uploads.keeping():
            yield

    accounts = Accounts(engine, passwords=CHEAP)
    trial = Part(name="trial", router=router, running=running)
    settings = Settings(port=port)
    app = make_application(settings, [accounts_part(accounts), desk_part(desk), trial])
    serve(Watching(app, moments), settings)  # type: ignore[arg-type]
