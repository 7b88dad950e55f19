"""The server is killed (SIGKILL) in the midst of every step: no confirmed step is lost, and none is doubled."""

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import select

from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.rules import COOKIE
from mmmed.serving.database.engine import open_database, reading
from mmmed.serving.database.upgrade import upgrade
from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.desk.tables import EVENTS, OUTBOX
from mmmed.serving.desk.verification import verify

from ..conftest import CHEAP, PASSWORD, PEOPLE, wait_for
from .conftest import draft, request
from .server_to_kill import run

_, ANNA, BERT, _ = PEOPLE
BETTER = "Small left pleural effusion."
ACTS = ("drafted", "taken", "returned", "amended", "approved", "signed", "rejected")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([run.__module__])


@dataclass
class Server:
    """A server that is started, killed, and started again."""

    url: str
    two_people: bool
    token: str
    csrf: str
    port: int = 0
    process: Any = None
    tally: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        self.process = PROCESSES.Process(target=run, args=(self.url, self.port, self.two_people), daemon=True)
        self.process.start()
        wait_for(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.send("/health", {}, method="GET").status == 200
        return False

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.process.close()

    def send(self, path: str, form: dict[str, str], *, method: str = "POST", then: Any = None) -> "Reply":
        """Send a request, do something, and read what comes."""
        body = urlencode(form | {"csrf": self.csrf})
        head = (
            f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {COOKIE}={self.token}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall((head + body).encode())
            if then is not None:
                then()
            received = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    received += part
        words = received.split(b" ", 2)
        return Reply(int(words[1]) if len(words) > 2 else 0)


@dataclass(frozen=True)
class Reply:
    """What came back; status 0 where nothing did."""

    status: int


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[Callable[[int], Counter[str]]]:
    """Kills the server so many times in each step."""
    url = f"sqlite:///{tmp_path}/mmmed.sqlite"
    engine = open_database(url)
    upgrade(engine)
    accounts = Accounts(engine, passwords=CHEAP)
    for user in PEOPLE:
        accounts.add(user, PASSWORD)
    token = accounts.log_in("anna", PASSWORD)
    login = accounts.find(token)
    assert login is not None
    dice = random.Random(0)
    tally: Counter[str] = Counter()

    def try_all(times: int) -> Counter[str]:
        for act in ACTS:
            two = act == "approved"
            server = Server(url, two, token, login.csrf)
            server.start()
            typical = took(server, act)
            for _ in range(times):
                tally.update(trial(server, act, dice.uniform(0.2, 1.6) * typical))
            server.kill()
        return tally

    def took(server: Server, act: str) -> float:
        """Seconds of the step when nothing is killed; the first one warms the server up."""
        seconds = 0.0
        for _ in range(3):
            path, form = prepare(server, act)
            start = time.perf_counter()
            assert server.send(path, form).status in (200, 303)
            seconds = time.perf_counter() - start
        return seconds

    def prepare(server: Server, act: str) -> tuple[str, dict[str, str]]:
        """A draft to which the step can be done, and the request that does it."""
        once = request()
        if act == "drafted":
            return f"/hand_in/{once}".replace(" ", "-"), {}
        desk = Desk(engine, rules=Rules(two_people=server.two_people, destinations=("dicom", "fhir")))
        id = desk.hand_in(draft(), by="rita", request=request())
        if act != "taken":
            desk.take(id, by=ANNA, request=request())
        words = {"taken": "take", "returned": "return", "amended": "amend", "approved": "approve", "signed": "sign"}
        form = {"request": once, "steps": "1" if act == "taken" else "2", "read": "true", "reason": "wrong side"}
        return f"/desk/drafts/{id}/{words.get(act, 'reject')}", form | {"text": BETTER}

    def trial(server: Server, act: str, delay: float) -> Counter[str]:
        path, form = prepare(server, act)

        def kill_soon() -> None:
            time.sleep(delay)
            server.kill()

        confirmed = server.send(path, form, then=kill_soon).status in (200, 303)
        once = form.get("request") or path.rpartition("/")[2]
        kept = done(once)
        assert kept <= 1
        assert not (confirmed and not kept), f"{act} was confirmed, and is lost"
        assert verify(engine).faults == (), f"{act} was killed half-way"
        server.start()
        assert server.send(path, form).status in (200, 303), "who sends again gets the answer of the first time"
        assert done(once) == 1, f"{act} is doubled"
        assert verify(engine).faults == ()
        name = "confirmed" if confirmed else "kept, unconfirmed" if kept else "not done"
        return Counter({name: 1, "kills": 1})

    def done(once: str) -> int:
        with reading(engine) as connection:
            found = connection.execute(select(EVENTS).where(EVENTS.c.request == once)).all()
            if found and found[0].act == "signed":
                left = connection.execute(select(OUTBOX.c.destination).where(OUTBOX.c.draft == found[0].draft))
                assert sorted(left.scalars()) == ["dicom", "fhir"]
        return len(found)

    yield try_all
    engine.dispose()


@pytest.mark.slow
def test_a_killed_server_loses_and_doubles_nothing(trials: Callable[[int], Counter[str]]) -> None:
    assert trials(1)["kills"] == len(ACTS)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_and_ten_kills_lose_and_double_nothing(trials: Callable[[int], Counter[str]]) -> None:
    tally = trials(30)
    print(dict(tally))
    assert tally["kills"] == 210
    assert tally["not done"] >= 10, "kills come before the step is kept"
    assert tally["kept, unconfirmed"] + tally["confirmed"] >= 10, "and after it"
