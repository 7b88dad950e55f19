"""The gate of a route: who asks, in which role, and whether the form is of our own page."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.user import Login, Role
from mmmed.serving.web.parts import Identify, Identity
from mmmed.serving.web.visitor import LoginNeeded, identified

COOKIE = "mmmed_login"
FIELD, HEADER = "csrf", "X-CSRF-Token"
_HARMLESS = ("GET", "HEAD", "OPTIONS")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def identifier_of(accounts: Accounts) -> Identify:
    """What says who has logged in, by the cookie."""

    async def identify(request: Request) -> Identity | None:
        token = request.cookies.get(COOKIE)
        login = await run_in_threadpool(accounts.find, token) if token else None
        request.state.login = login
        return Identity(login.user.name, f"{login.user.shown_name} ({login.user.role})") if login else None

    return identify


def require(*roles: Role) -> Callable[[Request], Awaitable[Login]]:
    """A dependency of routes that only people in one of these roles may use; without roles, all who have logged in.

    Requests that change something must send the login's token back, in the header `X-CSRF-Token` or the form's
    field `csrf`.
    """

    async def check(request: Request) -> Login:
        login = await check_role(request, *roles)
        if request.method not in _HARMLESS:
            await check_form(request, login.csrf)
        return login

    return check


async def check_role(request: Request, *roles: Role) -> Login:
    """Who asks, if it is somebody in one of these roles; without roles, anybody who has logged in.

    Raises:
        LoginNeeded: Nobody has logged in.
        HTTPException: 403, somebody in another role.
    """
    await identified(request)
    login: Login | None = getattr(request.state, "login", None)
    if login is None:
        raise LoginNeeded
    if roles and login.user.role not in roles:
        raise HTTPException(403, f"this needs the role {' or '.join(roles)}; you are {login.user.role}")
    return login


async def check_form(request: Request, expected: str) -> None:
    """Refuse a request that does not bring the token of its page back.

    Raises:
        HTTPException: 403, the token is missing or another.
    """
    given = request.headers.get(HEADER, "")
    if not given and request.headers.get("content-type", "").startswith(_FORMS):
        given = str((await request.form()).get(FIELD, ""))
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(403, "the form has expired; load the page again")
