"""The page's routes: pictures belong to who sent them, questions stream, maps and drafts are of what was said."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from mmmed.errors import DataError
from mmmed.inference.retrieval import Bm25, Index, Passage
from mmmed.inference.scoring import score_options
from mmmed.inference.session import Session
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn
from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.answering.served import Served
from mmmed.serving.demo.answers import Given
from mmmed.serving.demo.part import demo_part
from mmmed.serving.deployment import Deployment, open_deployment
from mmmed.serving.desk.handing_in import hands_in
from mmmed.serving.monitoring.record import read_log
from mmmed.serving.monitoring.study_log import StudyLog
from mmmed.serving.openai import interface_part
from mmmed.serving.web.application import make_application
from mmmed.serving.web.seen import SeenLog, verified
from mmmed.serving.web.settings import Settings

from ..conftest import wait_for

BASE = "http://127.0.0.1:7860"


def application(served: Served, uploads: Any, seen: SeenLog, studies: StudyLog, **settings: Any) -> Any:
    parts = [interface_part(served, uploads, seen), demo_part(served, uploads, seen, studies, **settings)]
    return make_application(Settings(), parts)


@pytest.fixture
def client(served: Served, uploads: Any, seen: SeenLog, studies: StudyLog) -> Any:
    handed: list[Given] = []

    async def draft(request: Request, given: Given) -> str:
        handed.append(given)
        return "/desk/drafts/1"

    index = Index(
        (Passage(id="book:1", text="An effusion blunts the angle."), Passage(id="book:2", text="Ribs are bones.")),
        Bm25(["An effusion blunts the angle.", "Ribs are bones."]),
    )
    app = application(replace(served, index=index), uploads, seen, studies, draft=draft)
    with TestClient(app, base_url=BASE) as client:
        client.handed = handed  # type: ignore[attr-defined]
        yield client


def send(client: TestClient, content: bytes) -> dict[str, Any]:
    answer = client.post("/demo/pictures", content=content)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def events_of(client: TestClient, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    answer = client.post("/demo/ask", json={"question": "Is there a pleural effusion?", "longest": 6} | body)
    assert answer.status_code == 200, answer.text
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def ended(events: list[tuple[str, dict[str, Any]]], lane: str = "seen") -> dict[str, Any]:
    (found,) = [told for name, told in events if name == "ended" and told["lane"] == lane]
    return found


def test_a_question_is_answered_with_and_without_its_picture(
    client: TestClient, session: Session, film: bytes, uploads: Any
) -> None:
    code = send(client, film)["code"]
    events = events_of(client, pictures=[{"code": code}], unseen=True)
    (upload,) = uploads._kept.values()
    text = f"{IMAGE_PLACEHOLDER}\nIs there a pleural effusion?"
    example = Example(id="a", patient="", turns=(Turn("user", text),), images=(upload.frame(),))
    blind = Example(id="b", patient="", turns=(Turn("user", "Is there a pleural effusion?"),))
    seen, unseen = (one.text for one in session.write([example, blind], max_new_tokens=6))
    assert ended(events)["text"] == seen
    assert ended(events, "unseen")["text"] == unseen
    for lane, whole in (("seen", seen), ("unseen", unseen)):
        assert "".join(told["text"] for name, told in events if name == "text" and told["lane"] == lane) == whole
    assert "answer" not in ended(events, "unseen")


def test_options_get_probabilities_and_an_unsure_model_abstains(client: TestClient, film: bytes) -> None:
    code = send(client, film)["code"]
    options = ["yes", "no", "left", "yes", " "]
    told = ended(events_of(client, pictures=[{"code": code}], options=options))
    shares = {one["text"]: one["share"] for one in told["options"]}
    assert list(shares) == ["yes", "no", "left"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert told["confidence"] == shares[told["text"]] == max(shares.values())
    assert told["unsure"] == (told["confidence"] < 0.6)


def test_passages_are_shown_with_their_sources_and_read_by_the_model(client: TestClient) -> None:
    plain, answered = events_of(client), events_of(client, passages=True)
    assert answered[0] == (
        "passages",
        {"passages": [{"number": 1, "id": "book:1", "text": "An effusion blunts the angle."}]},
    )
    assert ended(answered)["text"] != ended(plain)["text"]


def test_a_map_is_of_the_answer_that_was_given(client: TestClient, session: Session, film: bytes, uploads: Any) -> None:
    code = send(client, film)["code"]
    answer = ended(events_of(client, pictures=[{"code": code}]))
    drops = client.post("/demo/map", json={"answer": answer["answer"]}).json()["drops"]
    assert [len(row) for row in drops] == [6] * 6
    assert len({drop for row in drops for drop in row}) > 6
    from mmmed.safety.grounding import Occluded, squares_of

    (upload,) = uploads._kept.values()
    image = upload.frame()
    turns = (Turn("user", f"{IMAGE_PLACEHOLDER}\nIs there a pleural effusion?"), Turn("assistant", answer["text"]))
    whole = Example(id="a", patient="", turns=turns, images=(image,), options=(answer["text"],))
    hidden = replace(whole, images=(Occluded(image, squares_of(image.open().size, 6)[8]),))
    one, other = (x.values[0] / x.tokens[0] for x in score_options(session.model, session.processor, [whole, hidden]))
    assert drops[1][2] == pytest.approx(one - other, abs=1e-4)
    assert client.post("/demo/map", json={"answer": answer["answer"], "place": 1}).status_code == 422


def test_a_draft_is_what_the_server_said(client: Any, film: bytes) -> None:
    code = send(client, film)["code"]
    answer = ended(events_of(client, pictures=[{"code": code}]))
    made = client.post("/demo/drafts", json={"answer": answer["answer"]})
    assert (made.status_code, made.json()) == (201, {"path": "/desk/drafts/1"})
    (given,) = client.handed
    assert (given.text, given.question) == (answer["text"], "Is there a pleural effusion?")
    assert given.pictures[0].code == code


def test_nobody_sees_anothers_pictures_or_answers(client: TestClient, film: bytes) -> None:
    code = send(client, film)["code"]
    answer = ended(events_of(client, pictures=[{"code": code}]))["answer"]
    assert client.get(f"/demo/pictures/{code}").headers["content-type"] == "image/png"
    client.cookies.clear()
    assert client.get(f"/demo/pictures/{code}").status_code == 404
    assert client.post("/demo/ask", json={"question": "?a", "pictures": [{"code": code}]}).status_code == 404
    for path in ("/demo/map", "/demo/drafts"):
        assert client.post(path, json={"answer": answer}).status_code == 404
    assert client.delete(f"/demo/pictures/{code}").status_code == 404


def test_what_may_not_be_asked_is_told_so(client: TestClient) -> None:
    for options in ([], ["yes", "no"]):
        told = ended(events_of(client, question="How much morphine?", options=options))
        assert (told["text"], told["words"], told["decision"]) == ("", "That cannot be answered here.", "refuse")
        assert "answer" not in told


def test_who_saw_what_is_in_the_log_without_what_it_was(client: TestClient, film: bytes, seen: SeenLog) -> None:
    code = send(client, film)["code"]
    client.get(f"/demo/pictures/{code}")
    events_of(client, question="Has Jane Doe an effusion?", pictures=[{"code": code}])
    client.delete(f"/demo/pictures/{code}")
    lines = [json.loads(line) for line in seen.path.read_text().splitlines()]
    assert [line["did"] for line in lines] == ["sent", "saw", "asked", "was answered", "removed"]
    assert len({line["who"] for line in lines}) == 1
    assert lines[0]["what"] == lines[2]["what"] == code
    assert "Doe" not in seen.path.read_text()
    verified(seen.path)


def test_a_log_that_was_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "seen.jsonl"
    log = SeenLog(path)
    for number in range(4):
        log.note("account:ruth", "saw", f"picture {number}")
    SeenLog(path).note("account:ruth", "saw", "picture 4")
    lines = path.read_text().splitlines(keepends=True)
    changes = {
        "changed": [lines[0].replace("picture 0", "picture 9"), *lines[1:]],
        "taken out": [lines[0], *lines[2:]],
        "in another order": [lines[1], lines[0], *lines[2:]],
    }
    for changed in changes.values():
        path.write_text("".join(changed))
        with pytest.raises(DataError, match="tampered with"):
            SeenLog(path)
    path.write_text("".join(lines) + '{"at": "20')
    assert verified(path) == json.loads(lines[-1])["digest"]
    assert path.read_text() == "".join(lines), "what a killed server left half is cut off"


def test_the_page_says_what_the_audit_found(served: Served, uploads: Any, seen: SeenLog, studies: StudyLog) -> None:
    measure = {"name": "gap", "value": 0.1, "low": 0.0, "high": None, "n": 20, "verdict": "not shown"}
    check = {"title": "Do errors fall on some?", "verdict": "failed", "missing": "", "measures": [measure]}
    card = {"suite": "full", "verdict": "failed", "checks": [check], "not_tested": ["Reports."]}
    with TestClient(application(replace(served, card=card), uploads, seen, studies), base_url=BASE) as client:
        page = client.get("/")
        assert "mmmed_visit" in page.headers["set-cookie"]
        assert "Do errors fall on some?" in page.text and "gap: 0.100, n = 20, not shown" in page.text
        assert 'class="verdict-failed"' in page.text
        assert "style=" not in page.text and "onclick" not in page.text and "http" not in page.text
        assert client.post("/demo/drafts", json={"answer": "x"}).status_code == 404
    with TestClient(application(served, uploads, seen, studies), base_url=BASE) as client:
        assert "was not audited" in client.get("/").text


def test_what_is_asked_about_is_logged_for_monitoring_in_figures(
    client: TestClient, film: bytes, tmp_path: Path
) -> None:
    code = send(client, film)["code"]
    events_of(client, pictures=[{"code": code}], unseen=True)
    events_of(client, question="Is there morphine?", pictures=[{"code": code}])
    events_of(client)
    (study,) = read_log(tmp_path / "studies.jsonl").studies
    assert (study.study, study.model, study.error) == (hashlib.sha256(film).hexdigest()[:32], "tiny", "")
    assert len(study.embedding) == 64 and study.pixels and not study.abstained
    assert study.words and study.latency and study.confidence
    log = (tmp_path / "studies.jsonl").read_text()
    assert len(log.splitlines()) == 2, "the answer without its picture, and what had none, are no studies"
    assert "effusion?" not in log and "morphine" not in log
    assert json.loads(log.splitlines()[1])["abstained"]


def test_with_a_database_people_log_in_and_their_answers_become_drafts(
    served: Served,
    uploads: Any,
    seen: SeenLog,
    studies: StudyLog,
    film: bytes,
    url: str,
    accounts: Accounts,
    tmp_path: Path,
) -> None:
    log = str(tmp_path / "studies.jsonl")
    opened = open_deployment(Deployment(database=url, start="/", log=log))
    draft = hands_in(opened.desk, model="tiny", version="abc", harm=lambda question, text: 7.0 + len(question))
    page = demo_part(served, uploads, seen, studies, draft=draft)
    app = make_application(Settings(), [interface_part(served, uploads, seen), page, *opened.parts])
    with TestClient(app, base_url=BASE, follow_redirects=False) as client:
        asked = client.get("/", headers={"Accept": "text/html"})
        assert (asked.status_code, asked.headers["location"]) == (303, "/login")
        assert client.post("/demo/pictures", content=film).status_code == 401
        log_in(client, "rita")
        code = send(client, film)["code"]
        answer = ended(events_of(client, pictures=[{"code": code}]))
        made = [client.post("/demo/drafts", json={"answer": answer["answer"]}) for _ in range(2)]
        assert [one.status_code for one in made] == [201, 201]
        assert made[0].json() == made[1].json(), "handed in twice, it is one draft"
        opening = client.get(made[0].json()["path"])
        assert opening.status_code == 200
        assert "Is there a pleural effusion?" in opening.text and "harm if wrong 35.00" in opening.text
        picture = client.get(f"{made[0].json()['path']}/pictures/0")
        assert picture.headers["content-type"] == "image/png"
        log_in(client, "anna")
        assert client.get(f"/demo/pictures/{code}").status_code == 404, "another account's"
        assert client.post("/demo/drafts", json={"answer": answer["answer"]}).status_code == 404
        sign(client, made[0].json()["path"])
        wait_for(lambda: len(read_log(Path(log)).signed) > 0)
    read = read_log(Path(log))
    assert [one.study for one in read.signed] == [one.study for one in read.studies]
    assert read.signed[0].findings.keys() == read.studies[0].findings.keys() == {"effusion"}


def sign(client: TestClient, path: str) -> None:
    """Take a draft and sign it as it is."""
    for step in ("take", "sign"):
        shown = client.get(path).text
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', shown))
        sent = client.post(f"{path}/{step}", data=hidden | {"read": "true"})
        assert sent.status_code == 303, sent.text


def log_in(client: TestClient, name: str) -> None:
    """As a browser does: load the form, and send it."""
    client.cookies.clear()
    (csrf,) = re.findall(r'name="csrf" value="([^"]+)"', client.get("/login").text)[:1]
    sent = client.post("/login", data={"name": name, "password": "seven green kettles", "csrf": csrf})
    assert sent.status_code == 303
