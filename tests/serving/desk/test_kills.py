"""The server is killed (SIGKILL) in the midst of every step and of an upload: what was confirmed is there, and once.

Moments are spread evenly: a third before the commit, over the statements of the transaction; a third while it commits;
a third from there until the answer has left. Of an upload: while it comes, while it is read, and after.
"""

import contextlib
import io
import json
import multiprocessing
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from PIL import Image
from sqlalchemy import select

from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.rules import COOKIE
from mmmed.serving.database.engine import open_database, reading
from mmmed.serving.database.upgrade import upgrade
from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.desk.tables import EVENTS, OUTBOX
from mmmed.serving.desk.verification import verify
from mmmed.serving.web.seen import verified

from ..conftest import CHEAP, PASSWORD, PEOPLE, wait_for
from .conftest import draft, request
from .moments import PHASES, Moment
from .server_to_kill import SEEN, UPLOADS, run

_, ANNA, BERT, _ = PEOPLE
BETTER = "Small left pleural effusion."
ACTS = ("drafted", "taken", "returned", "amended", "approved", "signed", "rejected")
UPLOAD = "upload"
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
            return self.send("/health", b"", method="GET").status == 200
        return False

    def kill(self) -> None:
        """From outside, unless it is dead already."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.process.close()

    def measured(self) -> dict[str, float]:
        """How long the phases of the last request were."""
        told: dict[str, float] = json.loads(self.send("/measured", b"", method="GET").content)
        return told

    def send(
        self, path: str, body: bytes, *, method: str = "POST", when: Moment | None = None, cut: float = 1.0
    ) -> "Reply":
        """Send a request, or so much of it, after which the server is killed."""
        kind = "application/octet-stream" if path == f"/{UPLOAD}" else "application/x-www-form-urlencoded"
        head = (
            f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {COOKIE}={self.token}\r\n"
            f"{when.header() if when else ''}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(head.encode() + body[: int(cut * len(body))])
            if cut < 1:
                time.sleep(0.05)  # so that what was sent has arrived
                self.kill()
            received = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    received += part
        words, _, content = received.partition(b"\r\n\r\n")
        status = words.split(b" ", 2)
        return Reply(int(status[1]) if len(status) > 2 else 0, content)


@dataclass(frozen=True)
class Reply:
    """What came back; status 0 where nothing did."""

    status: int
    content: bytes = b""

    @property
    def confirms(self) -> bool:
        return self.status in (200, 303)


class Trials:
    """Kills a server over a database, and sees what is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/mmmed.sqlite"
        self.engine = open_database(self.url)
        upgrade(self.engine)
        accounts = Accounts(self.engine, passwords=CHEAP)
        for user in PEOPLE:
            accounts.add(user, PASSWORD)
        self.token = accounts.log_in("anna", PASSWORD)
        login = accounts.find(self.token)
        assert login is not None
        self.csrf = login.csrf
        self.dice = random.Random(0)
        self.tally: Counter[str] = Counter()

    def kill_in(self, acts: Sequence[str], *, times: int) -> Counter[str]:
        """So many kills in each phase of each step, or of an upload."""
        for act in acts:
            server = Server(self.url, act == "approved", self.token, self.csrf)
            server.start()
            long = self._phases(server, act)
            for phase in PHASES:
                for number in range(times):
                    # One in each equal part of the phase.
                    place = (number + self.dice.random()) / times * long[phase]
                    # Statements are counted: none, one, two, … are still executed.
                    moment = Moment(phase, int(place) if phase == "before" and act != UPLOAD else place)
                    found = self._upload(server, moment) if act == UPLOAD else self._trial(server, act, moment)
                    self.tally.update({f"{phase}: {found}": 1, "kills": 1})
            server.kill()
        return self.tally

    def _phases(self, server: Server, act: str) -> dict[str, float]:
        """How long each is when nothing is killed; the first request warms the server up."""
        for _ in range(3):
            path, body = self._prepare(server, act)
            assert server.send(path, body).confirms
        wait_for(lambda: server.measured()["after"] > 0)
        measured = server.measured()
        return measured | {"before": 1.0} if act == UPLOAD else measured

    def _prepare(self, server: Server, act: str) -> tuple[str, bytes]:
        """The request that does a step, and a draft to which it can be done; or an upload."""
        if act == UPLOAD:
            content = io.BytesIO()
            Image.frombytes("L", (400, 400), self.dice.randbytes(160_000)).save(content, format="PNG")
            return f"/{UPLOAD}", content.getvalue()
        once = request().replace(" ", "-")
        if act == "drafted":
            return f"/hand_in/{once}", b""
        desk = Desk(self.engine, rules=Rules(two_people=server.two_people, destinations=("dicom", "fhir")))
        id = desk.hand_in(draft(), by="rita", request=request())
        if act != "taken":
            desk.take(id, by=ANNA, request=request())
        words = {"taken": "take", "returned": "return", "amended": "amend", "approved": "approve", "signed": "sign"}
        form = {"request": once, "steps": "1" if act == "taken" else "2", "read": "true", "reason": "wrong side"}
        form |= {"text": BETTER, "csrf": self.csrf}
        return f"/desk/drafts/{id}/{words.get(act, 'reject')}", urlencode(form).encode()

    def _trial(self, server: Server, act: str, moment: Moment) -> str:
        path, body = self._prepare(server, act)
        confirmed = server.send(path, body, when=moment).confirms
        server.process.join(30)
        assert server.process.exitcode == -signal.SIGKILL, "it was killed, and not by us"
        once = dict(parse_qsl(body.decode())).get("request") or path.rpartition("/")[2]
        kept = self._done(once)
        assert kept <= 1
        assert not (confirmed and not kept), f"{act} was confirmed, and is lost"
        assert kept == {"before": 0, "after": 1}.get(moment.phase, kept), f"{act} was killed {moment.phase} the commit"
        assert verify(self.engine).faults == (), f"{act} was killed half-way"
        server.start()
        assert server.send(path, body).confirms, "who sends again gets the answer of the first time"
        assert self._done(once) == 1, f"{act} is doubled"
        assert verify(self.engine).faults == ()
        return "confirmed" if confirmed else "kept, unconfirmed" if kept else "not done"

    def _done(self, once: str) -> int:
        with reading(self.engine) as connection:
            found = connection.execute(select(EVENTS).where(EVENTS.c.request == once)).all()
            if found and found[0].act == "signed":
                left = connection.execute(select(OUTBOX.c.destination).where(OUTBOX.c.draft == found[0].draft))
                assert sorted(left.scalars()) == ["dicom", "fhir"]
        return len(found)

    def _upload(self, server: Server, moment: Moment) -> str:
        path, body = self._prepare(server, UPLOAD)
        earlier = self._uploads()
        if moment.phase == "before":
            server.send(path, body, cut=min(moment.place, 0.99))
            confirmed = False
        else:
            confirmed = server.send(path, body, when=moment).confirms
            server.process.join(30)
            assert server.process.exitcode == -signal.SIGKILL, "it was killed, and not by us"
        left = [one for one in self._uploads() if one not in earlier]
        found = "nothing" if not left else "half an upload" if left[0].endswith(".part") else "a whole upload"
        server.start()
        assert self._uploads() == [], "what a killed server left behind is removed"
        code = json.loads(server.send(path, body).content)["code"]
        assert self._uploads() == [code]
        verified(self.folder / SEEN)
        lines = [json.loads(line) for line in (self.folder / SEEN).read_text().splitlines()]
        assert [one["what"] for one in lines].count(code) == 1
        return "confirmed" if confirmed else f"{found} left"

    def _uploads(self) -> list[str]:
        return [one.name for one in (self.folder / UPLOADS).iterdir() if one.name != ".lock"]


@pytest.fixture
def trials(tmp_path: Path) -> Iterator[Trials]:
    """A database, and who works with it."""
    trials = Trials(tmp_path)
    yield trials
    trials.engine.dispose()


@pytest.mark.slow
def test_a_killed_server_loses_and_doubles_nothing(trials: Trials) -> None:
    assert trials.kill_in((*ACTS, UPLOAD), times=1)["kills"] == 3 * (len(ACTS) + 1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_hundred_and_forty_kills_lose_and_double_nothing(trials: Trials) -> None:
    tally = trials.kill_in((*ACTS, UPLOAD), times=10)
    print(json.dumps(tally, indent=1))
    assert tally["kills"] == 240
    assert tally["before: not done"] == 70
    kept = tally["during: kept, unconfirmed"] + tally["during: confirmed"]
    assert tally["during: not done"] >= 10 and kept >= 10, "on both sides of the commit"
    assert tally["after: kept, unconfirmed"] >= 10 and tally["after: confirmed"] >= 10
    assert tally["before: half an upload left"] == 10
