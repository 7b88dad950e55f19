"""Pages of sign-off, a part of the server: the queue, a draft, and what can be done with it; no script is needed."""

import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from mmmed.errors import SignoffError
from mmmed.serving.accounts.rules import require
from mmmed.serving.accounts.user import Login, Role
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.difference import difference
from mmmed.serving.desk.draft import LONGEST_TEXT
from mmmed.serving.web.pages import page
from mmmed.serving.web.parts import Link, Part

Colleague = Annotated[Login, Depends(require(Role.READER, Role.RADIOLOGIST))]
Reviewer = Annotated[Login, Depends(require(Role.RADIOLOGIST))]
Once = Annotated[str, Form(alias="request", min_length=16, max_length=64)]
Steps = Annotated[int, Form(ge=1)]
Words = Annotated[str, Form(max_length=2 * LONGEST_TEXT)]


def desk_part(desk: Desk) -> Part:
    """Sign-off, for people who have logged in.

    Args:
        desk: The drafts.
    """
    router = APIRouter(prefix="/desk", include_in_schema=False)
    _add_pages(router, desk)
    _add_steps(router, desk)

    return Part(name="desk", router=router, room="mmmed.serving.desk", link=Link("/desk", "Sign-off"))


def _add_pages(router: APIRouter, desk: Desk) -> None:
    @router.get("")
    def queue_page(request: Request, login: Colleague) -> Response:
        return page(
            request, "desk_queue.html.j2", login=login, waiting=desk.queue(), done=desk.done(), rules=desk.rules
        )

    @router.get("/drafts/{id}")
    def draft_page(request: Request, id: str, login: Colleague) -> Response:
        return _show(request, desk, id, login)

    @router.get("/drafts/{id}/pictures/{number}")
    def picture(id: str, number: int, login: Colleague) -> Response:
        try:
            shown = desk.picture(id, number).shown
        except SignoffError as error:
            raise HTTPException(404, str(error)) from None
        kind = "image/png" if shown.startswith(b"\x89PNG") else "image/jpeg"
        return Response(shown, media_type=kind)


def _add_steps(router: APIRouter, desk: Desk) -> None:
    @router.post("/drafts/{id}/take")
    def take(request: Request, id: str, login: Reviewer, once: Once) -> Response:
        return _do(request, desk, id, login, lambda: desk.take(id, by=login.user, request=once))

    @router.post("/drafts/{id}/return")
    def give_back(request: Request, id: str, login: Reviewer, once: Once, steps: Steps) -> Response:
        return _do(request, desk, id, login, lambda: desk.give_back(id, by=login.user, request=once, steps=steps))

    @router.post("/drafts/{id}/amend")
    def amend(
        request: Request, id: str, login: Reviewer, once: Once, steps: Steps, text: Words, reason: Words = ""
    ) -> Response:
        # Browsers send lines with \r\n.
        plain = text.replace("\r\n", "\n").strip()
        told: dict[str, Any] = {"by": login.user, "request": once, "reason": reason.strip(), "steps": steps}
        return _do(request, desk, id, login, lambda: desk.amend(id, plain, **told), typed=plain)

    @router.post("/drafts/{id}/approve")
    def approve(
        request: Request, id: str, login: Reviewer, once: Once, steps: Steps, read: Annotated[bool, Form()] = False
    ) -> Response:
        def step() -> None:
            _must(read)
            desk.approve(id, by=login.user, request=once, steps=steps)

        return _do(request, desk, id, login, step)

    @router.post("/drafts/{id}/sign")
    def sign(
        request: Request, id: str, login: Reviewer, once: Once, steps: Steps, read: Annotated[bool, Form()] = False
    ) -> Response:
        def step() -> None:
            _must(read)
            desk.sign(id, by=login.user, request=once, steps=steps)

        return _do(request, desk, id, login, step)

    @router.post("/drafts/{id}/reject")
    def reject(request: Request, id: str, login: Reviewer, once: Once, steps: Steps, reason: Words = "") -> Response:
        told: dict[str, Any] = {"by": login.user, "request": once, "steps": steps}
        return _do(request, desk, id, login, lambda: desk.reject(id, reason.strip(), **told))


def _must(read: bool) -> None:
    if not read:
        raise SignoffError("say that you have read the pictures and the text before you sign")


def _do(
    request: Request, desk: Desk, id: str, login: Login, step: Callable[[], object], *, typed: str | None = None
) -> Response:
    """Do a step and show the draft again; where it is refused, with the reason and what was typed."""
    try:
        step()
    except SignoffError as error:
        return _show(request, desk, id, login, complaint=str(error), typed=typed, status=409)
    return RedirectResponse(f"/desk/drafts/{id}", status_code=303)


def _show(
    request: Request,
    desk: Desk,
    id: str,
    login: Login,
    *,
    complaint: str = "",
    typed: str | None = None,
    status: int = 200,
) -> Response:
    try:
        opened = desk.look(id, by=login.user)
    except SignoffError as error:
        raise HTTPException(404, str(error)) from None
    standing = opened.standing
    return page(
        request,
        "desk_draft.html.j2",
        status=status,
        login=login,
        id=id,
        opened=opened,
        facts=opened.facts,
        standing=standing,
        holds=opened.holder == login.user.name and standing.holder == login.user.name,
        may_review=login.user.role is Role.RADIOLOGIST and not standing.is_final,
        must_approve=desk.rules.two_people and not standing.approved_by,
        difference=difference(standing.drafted, standing.text),
        complaint=complaint,
        typed=standing.text if typed is None else typed,
        # Each form does its thing once, however often it is sent.
        once=lambda: secrets.token_urlsafe(16),
    )
