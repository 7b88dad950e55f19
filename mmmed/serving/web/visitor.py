"""Who is asking: an account, a program with the token, or a browser on this machine that is known by its cookie."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Annotated, NamedTuple

from fastapi import Depends, HTTPException, Request, Response

from mmmed.serving.web.parts import Identity

COOKIE = "mmmed_visit"
_CODE = re.compile(r"[\w-]{22}")


class Visitor(NamedTuple):
    """Who is asking.

    Args:
        name: What uploads belong to and what the audit log says: `account:NAME`, `token`, or `visit:CODE`.
    """

    name: str


def know_again(response: Response, code: str) -> None:
    """Have a browser send its code from now on."""
    response.set_cookie(COOKIE, code, httponly=True, samesite="strict", path="/")


class LoginNeeded(Exception):
    """Nobody has logged in, and somebody must."""


async def identified(request: Request) -> Identity | None:
    """Who has logged in, found once for a request."""
    if not hasattr(request.state, "identity"):
        identify = request.app.state.identify
        request.state.identity = await identify(request) if identify else None
    identity: Identity | None = request.state.identity
    return identity


async def visitor(request: Request, response: Response) -> Visitor:
    """Who is asking a page: an account where there are accounts, else a browser on this machine.

    Raises:
        LoginNeeded: There are accounts, and nobody has logged in.
    """
    identity = await identified(request)
    if identity is not None:
        return Visitor(f"account:{identity.name}")
    if request.app.state.identify is not None or not request.app.state.settings.is_loopback:
        raise LoginNeeded
    code = request.cookies.get(COOKIE, "")
    if not _CODE.fullmatch(code):
        code = secrets.token_urlsafe(16)
        request.state.new_visit = code
        know_again(response, code)
    return Visitor(f"visit:{code}")


async def program(request: Request, response: Response) -> Visitor:
    """Who is asking the interface: whoever has the token where there is one, else as for pages.

    Raises:
        HTTPException: A token is wanted and not given, or it is another one.
    """
    token: str | None = request.app.state.token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token is not None and scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode()):
        return Visitor("token")
    if await identified(request) is not None:
        return await visitor(request, response)
    if token is not None or request.app.state.identify or not request.app.state.settings.is_loopback:
        raise HTTPException(401, "send the server's token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
    return await visitor(request, response)


Asking = Annotated[Visitor, Depends(visitor)]
"""Parameter of a page's route: who is asking."""
Program = Annotated[Visitor, Depends(program)]
"""Parameter of an interface's route: who is asking."""
