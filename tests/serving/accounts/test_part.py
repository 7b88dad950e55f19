"""Pages ask for a login, forms of other sites do nothing, and each role may do its own things only."""

import re

import pytest
from fastapi import APIRouter, Depends
from fastapi.testclient import TestClient

from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.part import accounts_part
from mmmed.serving.accounts.rules import COOKIE, HEADER, require
from mmmed.serving.accounts.user import Login, Role
from mmmed.serving.web.application import make_application
from mmmed.serving.web.parts import Part
from mmmed.serving.web.settings import Settings

from ..conftest import PASSWORD, Hands, log_in

HTML = {"accept": "text/html"}


@pytest.fixture
def client(accounts: Accounts) -> TestClient:
    router = APIRouter()

    @router.post("/report", dependencies=[Depends(require(Role.RADIOLOGIST))])
    def report() -> dict[str, str]:
        return {"done": "yes"}

    @router.get("/me")
    def me(login: Login = Depends(require())) -> dict[str, str]:  # noqa: B008
        return {"name": login.user.name}

    trial = Part(name="trial", router=router)
    app = make_application(Settings(), [accounts_part(accounts, start="/me"), trial])
    return TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False)


def test_without_a_login_a_browser_is_led_to_it_and_a_program_is_told(client: TestClient) -> None:
    led = client.get("/me", headers=HTML)
    assert (led.status_code, led.headers["location"]) == (303, "/login")
    assert client.get("/me").status_code == 401
    client.cookies.set(COOKIE, "made up")
    assert client.get("/me").status_code == 401


def test_who_logs_in_is_known_until_the_way_out(client: TestClient) -> None:
    cookie = log_in(client, "anna").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.get("/me").json() == {"name": "anna"}
    assert client.post("/logout").headers["location"] == "/login"
    assert client.get("/me").status_code == 401


def test_a_wrong_password_is_refused_on_the_page(client: TestClient) -> None:
    refused = log_in(client, "anna", "another sentence")
    assert refused.status_code == 401
    assert "name or password is wrong" in refused.text
    assert COOKIE not in client.cookies


def test_a_login_form_of_another_site_does_nothing(client: TestClient) -> None:
    sent = {"name": "anna", "password": PASSWORD, "csrf": ""}
    assert client.post("/login", data=sent).status_code == 403
    client.get("/login")
    assert client.post("/login", data=sent | {"csrf": "made up"}).status_code == 403
    assert COOKIE not in client.cookies


def test_a_change_needs_the_token_and_the_role(client: TestClient, accounts: Accounts) -> None:
    log_in(client, "anna")
    csrf = accounts.find(client.cookies[COOKIE]).csrf  # type: ignore[union-attr]
    assert client.post("/report").status_code == 403
    assert client.post("/report", headers={HEADER: "made up"}).status_code == 403
    assert client.post("/report", data={"csrf": csrf}).json() == {"done": "yes"}
    assert client.post("/report", headers={HEADER: csrf}).json() == {"done": "yes"}
    log_in(client, "rita")
    assert client.post("/report", headers={HEADER: csrf}).status_code == 403, "the token is of one login"
    own = accounts.find(client.cookies[COOKIE]).csrf  # type: ignore[union-attr]
    refused = client.post("/report", headers={HEADER: own})
    assert refused.json() == {"detail": "this needs the role radiologist; you are reader"}


def test_a_login_that_has_expired_is_none(client: TestClient, hands: Hands) -> None:
    log_in(client, "anna")
    hands.pass_(hours=1)
    assert client.get("/me").status_code == 401


def test_an_admin_keeps_the_accounts_and_nobody_else_does(client: TestClient, accounts: Accounts) -> None:
    log_in(client, "anna")
    assert client.get("/users").status_code == 403
    log_in(client, "adam")
    page = client.get("/users").text
    assert "Arzt, Anna" in page
    assert "argon2" not in page
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    new = {"csrf": csrf, "name": "emil", "full_name": "Eins^Emil", "role": "reader", "password": "nine blue lanterns"}
    assert client.post("/users", data=new).status_code == 303
    assert "there is a user emil already" in client.post("/users", data=new).text
    assert client.post("/users/disable", data={"csrf": csrf, "name": "emil"}).status_code == 303
    assert [user.name for user in accounts.users() if not user.active] == ["emil"]
    assert client.post("/users/disable", data={"csrf": csrf, "name": "adam"}).status_code == 409
    assert client.post("/users/enable", data={"csrf": csrf, "name": "emil"}).status_code == 303
