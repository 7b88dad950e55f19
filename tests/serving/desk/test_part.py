"""The pages of sign-off: what is shown, what the forms do, and what they refuse."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.part import accounts_part
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import Picture
from mmmed.serving.desk.part import desk_part
from mmmed.serving.desk.states import State
from mmmed.serving.web.application import make_application
from mmmed.serving.web.settings import Settings

from ..conftest import log_in
from .conftest import TEXT, draft, request

BETTER = "Small left pleural effusion."


@pytest.fixture
def browser(desk: Desk, accounts: Accounts) -> Any:
    app = make_application(Settings(), [accounts_part(accounts, start="/desk"), desk_part(desk)])

    def open_browser(name: str) -> TestClient:
        client = TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=True)
        log_in(client, name)
        return client

    return open_browser


def form_of(page: str, step: str) -> dict[str, str]:
    """The hidden fields of a form."""
    form = re.search(rf'<form method="post" action="/desk/drafts/\w+/{step}">(.*?)</form>', page, re.DOTALL)
    assert form, f"the page has no form to {step}"
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[1]))


def test_the_way_from_the_queue_to_a_signature(desk: Desk, browser: Any) -> None:
    id = desk.hand_in(draft(pictures=(Picture(b"\x89PNG film"),)), by="rita", request=request())
    anna, path = browser("anna"), f"/desk/drafts/{id}"
    assert path in anna.get("/desk").text
    page = anna.get(path).text
    assert TEXT in page
    assert anna.get(f"{path}/pictures/0").headers["content-type"] == "image/png"
    page = anna.post(f"{path}/take", data=form_of(page, "take")).text
    page = anna.post(f"{path}/amend", data=form_of(page, "amend") | {"text": BETTER + "\r\n", "reason": "seen"}).text
    assert "<del>" in page
    unread = anna.post(f"{path}/sign", data=form_of(page, "sign"))
    assert unread.status_code == 409
    assert "have read the pictures" in unread.text
    page = anna.post(f"{path}/sign", data=form_of(page, "sign") | {"read": "true"}).text
    assert "signed by anna" in page
    assert '<button type="submit">Sign' not in page
    assert desk.open(id).standing.text == BETTER
    assert {event.actor for event in desk.open(id).history if event.act == "seen"} == {"anna"}


def test_two_browsers_cannot_sign_one_draft(desk: Desk, browser: Any) -> None:
    id = desk.hand_in(draft(), by="rita", request=request())
    path = f"/desk/drafts/{id}"
    anna, bert, again = browser("anna"), browser("bert"), browser("anna")
    takes = [form_of(one.get(path).text, "take") for one in (anna, bert)]
    assert anna.post(f"{path}/take", data=takes[0]).status_code == 200
    refused = bert.post(f"{path}/take", data=takes[1])
    assert refused.status_code == 409
    assert "in review by anna" in refused.text
    forms = [form_of(one.get(path).text, "sign") | {"read": "true"} for one in (anna, again)]
    stolen = bert.post(f"{path}/sign", data=forms[0] | {"csrf": takes[1]["csrf"], "request": "another request 1"})
    assert stolen.status_code == 409
    assert anna.post(f"{path}/sign", data=forms[0]).status_code == 200
    late = again.post(f"{path}/sign", data=forms[1])
    assert late.status_code == 409
    assert anna.post(f"{path}/sign", data=forms[0]).status_code == 200, "the same click, sent twice"
    assert [event.act for event in desk.open(id).history].count("signed") == 1


def test_a_reader_sees_and_an_admin_does_not_and_neither_signs(desk: Desk, browser: Any) -> None:
    id = desk.hand_in(draft(), by="rita", request=request())
    rita = browser("rita")
    page = rita.get(f"/desk/drafts/{id}")
    assert page.status_code == 200
    assert "Take into review" not in page.text
    sent = {"csrf": "x", "request": request(), "steps": "1", "read": "true"}
    assert rita.post(f"/desk/drafts/{id}/sign", data=sent).status_code == 403
    assert browser("adam").get(f"/desk/drafts/{id}").status_code == 403
    assert desk.open(id).standing.state is State.DRAFT


def test_a_refused_amendment_keeps_what_was_typed(desk: Desk, browser: Any) -> None:
    id = desk.hand_in(draft(), by="rita", request=request())
    anna, path = browser("anna"), f"/desk/drafts/{id}"
    page = anna.post(f"{path}/take", data=form_of(anna.get(path).text, "take")).text
    form = form_of(page, "amend") | {"steps": "1", "text": BETTER}
    refused = anna.post(f"{path}/amend", data=form)
    assert refused.status_code == 409
    assert "changed since this page was loaded" in refused.text
    assert BETTER in refused.text


def test_what_the_model_wrote_cannot_be_markup(desk: Desk, browser: Any) -> None:
    id = desk.hand_in(draft("<script>alert(1)</script>", question="<img src=x>"), by="rita", request=request())
    page = browser("anna").get(f"/desk/drafts/{id}").text
    assert "<script>" not in page
    assert "<img src=x>" not in page


@pytest.mark.parametrize("path", ["/desk/drafts/nowhere", "/desk/drafts/nowhere/pictures/0"])
def test_what_is_not_there_is_not_found(browser: Any, path: str) -> None:
    assert browser("anna").get(path).status_code == 404
