"""The pages to log in, to log out and to keep the accounts, as a part of the server."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from mmmed.errors import AccountError
from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.rules import COOKIE, check_form, identifier_of, require
from mmmed.serving.accounts.user import Login, Role, User
from mmmed.serving.web.pages import page
from mmmed.serving.web.parts import Part
from mmmed.serving.web.visitor import identified

_BEFORE_LOGIN = "mmmed_form"

Admin = Annotated[Login, Depends(require(Role.ADMIN))]
Word = Annotated[str, Form(max_length=300)]


def accounts_part(accounts: Accounts, *, start: str = "/") -> Part:
    """The part that says who is asking.

    Args:
        accounts: Of whom there are.
        start: Path of the page after the login.
    """
    router = APIRouter(include_in_schema=False)
    _add_login(router, accounts, start)
    _add_users(router, accounts)

    return Part(
        name="accounts",
        router=router,
        room="mmmed.serving.accounts",
        identify=identifier_of(accounts),
        login="/login",
        logout="/logout",
    )


def _add_login(router: APIRouter, accounts: Accounts, start: str) -> None:
    @router.get("/login")
    def login_page(request: Request) -> Response:
        return _form(request)

    @router.post("/login")
    async def log_in(request: Request, name: Word, password: Word) -> Response:
        # Before there is a login, the token of the form is that of a cookie which another site cannot set.
        await check_form(request, request.cookies.get(_BEFORE_LOGIN, ""))
        try:
            token = await run_in_threadpool(accounts.log_in, name, password)
        except AccountError as error:
            return _form(request, complaint=str(error), status=401)
        answer = RedirectResponse(start, status_code=303)
        longest = int(accounts.limits.longest.total_seconds())
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, max_age=longest, httponly=True, samesite="strict", secure=secure)
        answer.delete_cookie(_BEFORE_LOGIN)
        return answer

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        # Needs no token of the form: that another site's page may not send this is checked for all requests.
        await identified(request)
        if token := request.cookies.get(COOKIE):
            await run_in_threadpool(accounts.log_out, token)
        answer = RedirectResponse("/login", status_code=303)
        answer.delete_cookie(COOKIE)
        return answer


def _add_users(router: APIRouter, accounts: Accounts) -> None:
    @router.get("/users")
    def users_page(request: Request, login: Admin) -> Response:
        return _users(request, login)

    @router.post("/users")
    def add_user(
        request: Request,
        login: Admin,
        name: Word,
        full_name: Word,
        role: Annotated[Role, Form()],
        password: Word,
        identifier: Word = "",
    ) -> Response:
        try:
            accounts.add(User(name.strip(), full_name, identifier, role), password)
        except AccountError as error:
            return _users(request, login, complaint=str(error), status=409)
        return RedirectResponse("/users", status_code=303)

    @router.post("/users/disable")
    def disable_user(request: Request, login: Admin, name: Word) -> Response:
        if name == login.user.name:  # so that one admin is left
            return _users(request, login, complaint="your own account stays; another admin can disable it", status=409)
        accounts.disable(name)
        return RedirectResponse("/users", status_code=303)

    @router.post("/users/enable")
    def enable_user(request: Request, login: Admin, name: Word) -> Response:
        accounts.enable(name)
        return RedirectResponse("/users", status_code=303)

    def _users(request: Request, login: Login, *, complaint: str = "", status: int = 200) -> Response:
        told = {"users": accounts.users(), "roles": list(Role), "login": login, "complaint": complaint}
        return page(request, "users.html.j2", status=status, **told)


def _form(request: Request, *, complaint: str = "", status: int = 200) -> Response:
    csrf = request.cookies.get(_BEFORE_LOGIN) or secrets.token_urlsafe(32)
    answer = page(request, "login.html.j2", status=status, csrf=csrf, complaint=complaint)
    secure = request.url.scheme == "https"
    answer.set_cookie(_BEFORE_LOGIN, csrf, httponly=True, samesite="strict", secure=secure)
    return answer
