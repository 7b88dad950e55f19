"""Sign-off beside the page: accounts, the desk, and the way of an answer from the one to the other."""

from __future__ import annotations

import io
from typing import NamedTuple

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

from mmmed.errors import ConfigError
from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.part import accounts_part
from mmmed.serving.accounts.user import Login, Role
from mmmed.serving.database.engine import open_database
from mmmed.serving.database.upgrade import upgrade
from mmmed.serving.demo.answers import Draft, Given
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.desk.part import desk_part
from mmmed.serving.web.parts import Part


class Signing(NamedTuple):
    """What the page is given where there is sign-off.

    Args:
        parts: Accounts and the desk.
        draft: Hands an answer in.
    """

    parts: tuple[Part, ...]
    draft: Draft


def signing(database: str, *, model: str, version: str) -> Signing:
    """Open a database of accounts and drafts for the page.

    Args:
        database: Its URL.
        model: Name of the model, as it stands on drafts.
        version: Digest of its weights.

    Raises:
        ConfigError: Nobody has an account yet.
    """
    engine = open_database(database)
    upgrade(engine)
    accounts = Accounts(engine)
    if not accounts.users():
        raise ConfigError("nobody has an account yet; make one with: mmmed accounts add NAME --role admin ...")
    desk = Desk(engine)

    async def draft(request: Request, code: str, given: Given) -> str:
        login: Login = request.state.login
        if login.user.role not in (Role.READER, Role.RADIOLOGIST):
            raise HTTPException(403, f"handing in needs the role reader or radiologist; you are {login.user.role}")

        def hand_in() -> str:
            # The answer's own code: handed in twice, it is one draft.
            return desk.hand_in(_draft(given, model=model, version=version), by=login.user.name, request=code)

        return f"/desk/drafts/{await run_in_threadpool(hand_in)}"

    return Signing((accounts_part(accounts), desk_part(desk)), draft)


def _draft(given: Given, *, model: str, version: str) -> NewDraft:
    shown = []
    for image, upload in zip(given.example.images, given.pictures, strict=True):
        buffer = io.BytesIO()
        image.open().save(buffer, format="PNG")
        shown.append(Picture(shown=buffer.getvalue(), header=upload.header()))
    return NewDraft(
        text=given.text,
        question=given.question,
        model=model,
        model_version=version,
        uncertainty=1.0 - given.confidence,
        pictures=tuple(shown),
    )
