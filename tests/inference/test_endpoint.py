"""A stub server hears what an OpenAI-compatible one would, and its answers become ours."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from mmmed.errors import ConfigError, DataError
from mmmed.inference.asking import Asking, answer
from mmmed.inference.endpoint import KEY, Endpoint
from mmmed.inference.generation import Decoding
from mmmed.inference.prompting import Form
from mmmed.inference.scoring import Rule
from mmmed.records import Example

MakeExample = Callable[..., Example]


class Stub(ThreadingHTTPServer):
    """Answers with `say` of the request; the first requests fail with the listed codes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.failures: list[int] = []
        self.say: Callable[[dict[str, Any]], str] = lambda body: "yes"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append((body, dict(self.headers)))
        if self.server.failures:
            self.send_error(self.server.failures.pop(0))
            return
        said = json.dumps({"choices": [{"message": {"role": "assistant", "content": self.server.say(body)}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_closed_questions_are_parsed_and_what_names_nothing_is_kept(stub: Stub, make_example: MakeExample) -> None:
    stub.say = lambda body: "No." if "effusion" in json.dumps(body) else "yes no"
    asked = [make_example(name, f"Is there {name}?", "yes", options=("yes", "no")) for name in ("effusion", "mass")]
    said = Endpoint(url=stub.url, model="m").choose(asked)
    assert said[0].text == "no"
    assert said[0].options == {"yes": 0.0, "no": 1.0}
    assert said[1].text == "yes no"
    assert said[1].confidence is None


def test_letters_are_understood(stub: Stub, make_example: MakeExample) -> None:
    stub.say = lambda body: "B) right, of course"
    form = Form(prompt="{question}\n{options}", answer="letters")
    example = make_example("a", "Where?", "left", options=("left", "right"))
    (said,) = answer(Endpoint(url=stub.url, model="m"), [example], Asking(form=form))
    assert said.text == "right"


def test_images_and_settings_travel_and_the_reference_does_not(
    stub: Stub, make_example: MakeExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "secret")
    example = make_example("a", "What is it?", "a planted answer", 5)
    Endpoint(url=stub.url, model="m").write([example], decoding=Decoding(max_new_tokens=7, stop=("\n",)))
    ((body, headers),) = stub.heard
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["max_tokens"], body["stop"], body["temperature"]) == ("m", 7, ["\n"], 0.0)
    assert "planted" not in json.dumps(body)
    image, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    sent = Image.open(BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2])))
    assert sent.tobytes() == example.images[0].open().tobytes()


def test_a_busy_endpoint_is_asked_again_and_a_refusal_is_not(stub: Stub, make_example: MakeExample) -> None:
    endpoint = Endpoint(url=stub.url, model="m", pause_s=0.0)
    stub.failures = [429, 503]
    assert endpoint.write([make_example("a", "?", "")])[0].text == "yes"
    stub.heard.clear()
    stub.failures = [401]
    with pytest.raises(DataError, match=r"does not answer for model 'm' \(HTTP 401"):
        endpoint.write([make_example("a", "?", "")])
    assert len(stub.heard) == 1


def test_answers_keep_the_order_of_the_questions(stub: Stub, make_example: MakeExample) -> None:
    stub.say = lambda body: body["messages"][0]["content"]
    asked = [make_example(str(number), f"number {number}", "") for number in range(20)]
    told: list[int] = []
    said = Endpoint(url=stub.url, model="m").write(asked, advance=told.append)
    assert [one.text for one in said] == [f"number {number}" for number in range(20)]
    assert sum(told) == 20


def test_what_an_endpoint_cannot_do_is_one_line(make_example: MakeExample) -> None:
    with pytest.raises(ConfigError, match="expected an address such as"):
        Endpoint(url="localhost:8000", model="m")
    with pytest.raises(ConfigError, match="name the model"):
        Endpoint(url="http://localhost:8000/v1", model="")
    with pytest.raises(ConfigError, match="gives no likelihoods"):
        Endpoint(url="http://localhost:8000/v1", model="m").choose([], rule=Rule(length="tokens"))
    with pytest.raises(DataError, match="does not answer"):
        Endpoint(url="http://127.0.0.1:9/v1", model="m", attempts=1).write([make_example("a", "?", "")])
