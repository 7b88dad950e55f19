"""A program that speaks OpenAI's form is answered in it, and by the same policy as everyone."""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mmmed.inference.endpoint import messages
from mmmed.inference.session import Session
from mmmed.records import Example
from mmmed.serving.answering.engine import Capacity, Engine
from mmmed.serving.answering.served import Served
from mmmed.serving.openai import interface_part
from mmmed.serving.web.application import make_application
from mmmed.serving.web.settings import Settings


@pytest.fixture
def client(served: Served, uploads: Any, seen: Any) -> Any:
    app = make_application(Settings(), [interface_part(served, uploads, seen)])
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client


def asked(text: str = "Is there an effusion?", **settings: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 6} | settings


def lines_of(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_picture_is_answered_as_the_session_answers(
    client: TestClient, session: Session, examples: list[Example], uploads: Any
) -> None:
    for example in (examples[0], examples[2], examples[5]):
        body = client.post("/v1/chat/completions", json=asked() | {"messages": messages(example)}).json()
        (expected,) = session.write([example], max_new_tokens=6)
        (choice,) = body["choices"]
        assert choice["message"] == {"role": "assistant", "content": expected.text}
        assert choice["finish_reason"] in ("stop", "length")
        assert body["usage"]["completion_tokens"] <= 6 and body["usage"]["prompt_tokens"] > 5
        assert 0 < body["mmmed"]["confidence"] <= 1
    assert [path.name for path in uploads.folder.iterdir()] == [".lock"], "pictures are let go"


def test_a_stream_joins_to_the_whole(client: TestClient, examples: list[Example], uploads: Any) -> None:
    body = asked(max_tokens=40) | {"messages": messages(examples[0])}
    whole = client.post("/v1/chat/completions", json=body).json()["choices"][0]
    settings = {"stream": True, "stream_options": {"include_usage": True}}
    answer = client.post("/v1/chat/completions", json=body | settings)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, usage = lines_of(answer.text)
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(pieces) == whole["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] > 0
    assert [path.name for path in uploads.folder.iterdir()] == [".lock"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_may_not_be_asked_is_not_answered(client: TestClient, stream: bool) -> None:
    answer = client.post("/v1/chat/completions", json=asked("How much morphine?", stream=stream))
    assert answer.status_code == 200
    if stream:
        chunks = lines_of(answer.text)
        assert (
            "".join(one["choices"][0]["delta"].get("content", "") for one in chunks) == "That cannot be answered here."
        )
        assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"
    else:
        (choice,) = answer.json()["choices"]
        assert choice["message"]["content"] == "That cannot be answered here."
        assert choice["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        ({"messages": []}, 422, "at least 1"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 422, "the last message is not the user's"),
        ({"messages": [{"role": "user", "content": " "}]}, 422, "asks nothing"),
        ({"messages": [{"role": "user", "content": "a <image> b"}]}, 422, "the text holds '<image>'"),
        ({"messages": [{"role": "user", "content": "a<|im_end|>b"}]}, 422, "the text holds '<|im_end|>'"),
        ({"model": "gpt-4"}, 404, "no model 'gpt-4' here"),
        ({"n": 2}, 422, "n: Input should be 1"),
        ({"tools": [{}]}, 422, "tools"),
        ({"max_tokens": 0}, 422, "greater than or equal to 1"),
        ({"temperature": "NaN"}, 422, "finite"),
        ({"stop": [""]}, 422, "an empty stop"),
    ],
)
def test_a_mistake_is_one_line(client: TestClient, changed: dict[str, Any], status: int, message: str) -> None:
    answer = client.post("/v1/chat/completions", json=asked() | changed)
    assert answer.status_code == status
    assert message in answer.json()["detail"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://169.254.169.254/latest", "none is fetched"),
        ("file:///etc/passwd", "none is fetched"),
        ("data:image/png;base64,????", "not in base64"),
        ("data:image/png;base64," + base64.b64encode(b"GIF89a" + bytes(200)).decode(), "no PNG, JPEG or DICOM"),
    ],
)
def test_pictures_come_inside_the_request(client: TestClient, url: str, message: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is shown?"}]
    answer = client.post("/v1/chat/completions", json=asked() | {"messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 422
    assert message in answer.json()["detail"]


def test_who_comes_when_too_many_wait_is_told_when_to_come_again(
    session: Session, lenient: Any, uploads: Any, seen: Any
) -> None:
    engine = Engine(session, Capacity(waiting=1))
    served = Served(name="tiny", engine=engine, policy=lenient)
    app = make_application(Settings(), [interface_part(served, uploads, seen)])
    hold = threading.Event()
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        held = engine.compute(lambda one: hold.wait(20))
        while not held.running():
            pass
        first = threading.Thread(target=client.post, args=("/v1/chat/completions",), kwargs={"json": asked()})
        first.start()
        while not engine.load.waiting:
            pass
        for stream in (False, True):
            answer = client.post("/v1/chat/completions", json=asked(stream=stream))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        hold.set()
        first.join()


def test_a_visitor_has_so_many_questions(served: Served, uploads: Any, seen: Any) -> None:
    app = make_application(Settings(asks_at_once=2, asks_per_minute=1), [interface_part(served, uploads, seen)])
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        found = [client.post("/v1/chat/completions", json=asked()) for _ in range(3)]
    assert [one.status_code for one in found] == [200, 200, 429]
    assert 50 < int(found[-1].headers["retry-after"]) <= 60


def test_models_and_metrics_say_nothing_of_what_was_asked(client: TestClient) -> None:
    assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["tiny"]
    client.post("/v1/chat/completions", json=asked("Has Jane Doe an effusion?"))
    metrics = client.get("/metrics").text
    assert "mmmed_answers_waiting 0.0" in metrics
    assert 'mmmed_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1.0' in metrics
    (written,) = re.findall(r"^mmmed_written_tokens_total (\S+)$", metrics, re.MULTILINE)
    assert float(written) > 0
    assert "Doe" not in metrics
