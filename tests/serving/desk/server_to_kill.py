"""A server of sign-off in a process of its own, with a way to hand drafts in."""

from fastapi import APIRouter

from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.part import accounts_part
from mmmed.serving.database.engine import open_database
from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.desk.part import desk_part
from mmmed.serving.web.application import make_application
from mmmed.serving.web.parts import Part
from mmmed.serving.web.server import serve
from mmmed.serving.web.settings import Settings
from tests.serving.conftest import CHEAP


def run(url: str, port: int, two_people: bool) -> None:
    """Serve until killed."""
    engine = open_database(url)
    desk = Desk(engine, rules=Rules(two_people=two_people, destinations=("dicom", "fhir")))
    router = APIRouter()

    @router.post("/hand_in/{request}")
    def hand_in(request: str) -> dict[str, str]:
        film = Picture(b"\x89PNG" + bytes(200_000), b"header")
        draft = NewDraft(text="No effusion.", question="What?", model="tiny", pictures=(film,))
        return {"id": desk.hand_in(draft, by="rita", request=request)}

    accounts = Accounts(engine, passwords=CHEAP)
    parts = [accounts_part(accounts), desk_part(desk), Part(name="trial", router=router)]
    settings = Settings(port=port)
    serve(make_application(settings, parts), settings)
