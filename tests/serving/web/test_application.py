"""Parts share one set of guards, and no part gets around them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.testclient import TestClient

from mmmed.errors import ConfigError, DataError
from mmmed.serving.web.application import make_application
from mmmed.serving.web.headers import HEADERS
from mmmed.serving.web.parts import Identity, Link, Part
from mmmed.serving.web.settings import TOKEN, Settings
from mmmed.serving.web.visitor import Asking, Program

SECRET = "a" * 32


async def nobody(request: Request) -> Identity | None:
    name = request.cookies.get("who")
    return Identity(name, name.title()) if name else None


def part_of(name: str = "trial", **settings: object) -> Part:
    router = APIRouter()

    @router.get("/page")
    async def page_of(asking: Asking) -> dict[str, str]:
        return {"name": asking.name}

    @router.post("/v1/thing")
    async def thing(asking: Program) -> dict[str, str]:
        return {"name": asking.name}

    @router.post("/body")
    async def body(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @router.get("/broken/{name}")
    async def broken(name: str) -> None:
        raise RuntimeError(f"cannot read {name}")

    @router.get("/mistake")
    async def mistake() -> None:
        raise DataError("no such thing; give another")

    return Part(name=name, router=router, **settings)  # type: ignore[arg-type]


def client_of(app: FastAPI, base_url: str = "http://127.0.0.1:7860") -> TestClient:
    return TestClient(app, base_url=base_url, follow_redirects=False)


@pytest.fixture
def client() -> TestClient:
    return client_of(make_application(Settings(request_bytes=1000), [part_of(link=Link("/page", "Trial"))]))


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/broken/x", "/mistake", "/static/web/frame.css"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    answer = client.get(path)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["cache-control"] == "no-store"
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_a_defect_is_answered_and_logged_without_what_was_sent(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = client.get("/broken/DOE_JANE?born=1950", headers={"Cookie": "patient=Doe"})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "a defect of the server"}
    assert "RuntimeError" in caplog.text and "test_application.py" in caplog.text
    told = "".join(record.getMessage() for record in caplog.records if record.name.startswith("mmmed"))
    assert "DOE" not in told and "1950" not in told and "Doe" not in told
    metrics = client.app.state.traffic.text().decode()  # type: ignore[attr-defined]
    assert 'route="/broken/{name}"' in metrics and "DOE" not in metrics


def test_a_mistake_is_one_line(client: TestClient) -> None:
    answer = client.get("/mistake")
    assert (answer.status_code, answer.json()) == (422, {"detail": "no such thing; give another"})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:7860"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": ""}, 421),
    ],
)
def test_other_sites_cannot_send_and_other_names_are_not_answered(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.post("/body", content=b"x", headers=headers).status_code == status


def test_a_request_is_cut_off_at_its_size(client: TestClient) -> None:
    assert client.post("/body", content=b"x" * 1000).json() == {"bytes": 1000}
    assert client.post("/body", content=b"x" * 1001).status_code == 413
    # Without a length beforehand.
    assert client.post("/body", content=(b"x" * 100 for _ in range(11))).status_code == 413
    assert client.post("/body", content=b"x", headers={"Content-Length": "-1"}).status_code == 413


def test_a_browser_on_this_machine_is_known_by_its_cookie(client: TestClient) -> None:
    first = client.get("/page")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert client.get("/page").json() == first.json()
    assert client.get("/page", headers={"Cookie": "mmmed_visit=../../etc"}).json()["name"].startswith("visit:")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_a_network_needs_accounts_or_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(ConfigError, match="open to a network"):
        make_application(Settings(host=host), [part_of()])


def test_accounts_ask_every_page_for_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    part = part_of(identify=nobody, login="/login", logout="/logout")
    client = client_of(make_application(Settings(host="192.168.1.5"), [part]), "http://192.168.1.5")
    asked = client.get("/page", headers={"Accept": "text/html"})
    assert (asked.status_code, asked.headers["location"]) == (303, "/login")
    assert client.get("/page").status_code == 401
    assert client.post("/v1/thing").status_code == 401
    client.cookies.set("who", "ruth")
    assert client.get("/page").json() == {"name": "account:ruth"}
    assert client.post("/v1/thing").json() == {"name": "account:ruth"}


def test_a_token_opens_the_interface_and_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    client = client_of(make_application(Settings(host="192.168.1.5"), [part_of()]), "http://192.168.1.5")
    bearer = {"Authorization": f"Bearer {SECRET}"}
    assert client.post("/v1/thing", headers=bearer).json() == {"name": "token"}
    for given in (b"", b"Bearer b", SECRET.encode(), b"Bearer \xe9"):
        assert client.post("/v1/thing", headers={b"Authorization": given}).status_code == 401
    assert client.get("/page", headers=bearer).status_code == 401


def test_a_short_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "secret")
    with pytest.raises(ConfigError, match="expected 24 or more"):
        make_application(Settings(), [])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([part_of(), part_of()], "two parts of the server are called trial"),
        ([part_of("web")], "two parts of the server are called web"),
        ([part_of(identify=nobody)], "identify and login go together"),
        (
            [part_of("a", identify=nobody, login="/a"), part_of("b", identify=nobody, login="/b")],
            "a and b both say who is asking",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts: list[Part], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_application(Settings(), parts)


def test_nothing_outside_the_static_folders_is_served(client: TestClient) -> None:
    assert client.get("/static/page/page.css").status_code == 200
    for path in ("/static/web/../application.py", "/static/web/%2e%2e/application.py", "/static/web/..%2fparts.py"):
        assert client.get(path).status_code in (404, 405)
    assert (Path(make_application.__code__.co_filename)).is_file()


def test_the_description_of_the_interface_comes_without_pages_that_fetch_from_elsewhere(client: TestClient) -> None:
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
