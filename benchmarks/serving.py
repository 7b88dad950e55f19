"""Answers to many people at once against one after the other: equal answers first, then throughput and latencies.

    python benchmarks/serving.py CHECKPOINT [chats] [tokens] [pairs] [alone]

Each chat is a question about a film of its own (phantoms, drawn here), put to a server of its own thread over HTTP as
OpenAI's form has it. The peer is the same engine with room for a single answer, which is how a server without batching
works. Both get the questions at the same moment, the peer so many of them (`alone`; throughput is by the chat). The
longest waits are told beside the shortest, and how much memory the process took at its peak. A question is read at the
speed of the processor by either; what side by side is cheaper is writing, so that the row says how many tokens were
written.
"""

import base64
import io
import json
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from measuring import Claim, timed, write

from mmmed.data.sources.phantom import PhantomSource
from mmmed.inference.loading import load
from mmmed.inference.session import Session
from mmmed.records import Example
from mmmed.safety.policy import Policy
from mmmed.serving.answering.engine import Capacity, Engine
from mmmed.serving.answering.served import Served
from mmmed.serving.openai import interface_part
from mmmed.serving.uploads.folder import Room, Uploads
from mmmed.serving.web.application import make_application
from mmmed.serving.web.seen import SeenLog
from mmmed.serving.web.settings import Settings

QUESTIONS = ("List the findings on this film.", "Is there a pleural effusion?", "Which findings are present?")


class Answered(NamedTuple):
    """One chat."""

    text: str
    seconds: float
    tokens: int


def main() -> None:
    """Print and keep a row for each claim."""
    checkpoint = sys.argv[1]
    given = [int(one) for one in sys.argv[2:]]
    chats, tokens, pairs, few = given + [64, 32, 3, 64][len(given) :]
    session = load(checkpoint, device="cpu")
    asked = bodies(chats, tokens)
    told: dict[str, list[Answered]] = {}
    with serving(session, Capacity(rows=1, joining=1)) as alone, serving(session, Capacity()) as together:

        def ask(name: str, address: str) -> None:
            told[name] = ask_all(address, asked if name == "together" else asked[:few])

        # The first pair is what is compared; where the answers differ, no time is told.
        taken = [(timed(lambda: ask("together", together)), timed(lambda: ask("alone", alone)))]
        memory = peak_memory()
        different = sum(one.text != other.text for one, other in zip(told["together"], told["alone"], strict=False))
        written = round(statistics.mean(one.tokens for one in told["together"]))
        print(f"{different} of {few} answers differ; {written} tokens are written (mean)", flush=True)
        if different:
            raise SystemExit("the two write different answers; nothing is told")
        more: dict[str, Any] = {
            "checkpoint": Path(checkpoint).name,
            "pairs": pairs,
            "chats_alone": few,
            "peak_memory_gb": round(memory / 2**30, 2),
            **latencies(told["together"]),
        }
        print(more, flush=True)
        for _ in range(pairs - 1):
            theirs = timed(lambda: ask("alone", alone))
            taken.append((timed(lambda: ask("together", together)), theirs))
    wall = [(other.wall / few) / (own.wall / chats) for own, other in taken]
    processor = [(other.processor / few) / (own.processor / chats) for own, other in taken]
    row = Claim(
        claim=f"{chats} chats at once, {written} tokens written on average",
        peer="one after the other",
        ratio=round(statistics.median(wall), 2),
        low=round(min(wall), 2),
        high=round(max(wall), 2),
        equal=float(different),
        bar=3.0,
        ratio_cpu=round(statistics.median(processor), 2),
        more=more | {"seconds_ours": round(statistics.median(own.wall for own, _ in taken), 1)},
    )
    write("serving", [row])


def latencies(answered: list[Answered]) -> dict[str, float]:
    """How long people wait, in seconds: of all that ask at the same moment."""
    waits = sorted(one.seconds for one in answered)
    return {
        "latency_shortest_s": round(waits[0], 2),
        "latency_median_s": round(statistics.median(waits), 2),
        "latency_95_s": round(waits[int(0.95 * (len(waits) - 1))], 2),
        "latency_longest_s": round(waits[-1], 2),
    }


def bodies(chats: int, tokens: int) -> list[bytes]:
    """The requests."""
    films = [one for one in PhantomSource(chats, questions=("finding",)).records() if isinstance(one, Example)]
    by_film = list({one.images[0].name: one for one in films}.values())
    made = []
    for number in range(chats):
        buffer = io.BytesIO()
        by_film[number % len(by_film)].images[0].open().save(buffer, format="PNG")
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": QUESTIONS[number % len(QUESTIONS)]},
        ]
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": tokens}
        made.append(json.dumps(body).encode())
    return made


@contextmanager
def serving(session: Session, capacity: Capacity) -> Iterator[str]:
    """A server over a model; its address."""
    with tempfile.TemporaryDirectory() as folder:
        served = Served(name="benchmark", engine=Engine(session, capacity), policy=Policy.load())
        uploads = Uploads(Path(folder) / "uploads", room=Room(uploads=10_000))
        settings = Settings(asks_at_once=10_000, uploads_at_once=10_000)
        app = make_application(settings, [interface_part(served, uploads, SeenLog(Path(folder) / "seen.jsonl"))])
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def ask_all(address: str, asked: list[bytes]) -> list[Answered]:
    """Ask everything at the same moment."""
    together = threading.Barrier(len(asked))

    def ask(body: bytes) -> Answered:
        request = urllib.request.Request(
            f"{address}/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}
        )
        together.wait()
        started = time.perf_counter()
        with urllib.request.urlopen(request, timeout=3600) as answer:
            told: Any = json.load(answer)
        text, written = told["choices"][0]["message"]["content"], told["usage"]["completion_tokens"]
        return Answered(text, time.perf_counter() - started, written)

    with ThreadPoolExecutor(len(asked)) as people:
        return list(people.map(ask, asked))


def peak_memory() -> int:
    """Bytes that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
