"""A database of each kind that runs here, people who work with it, and a server over a tiny model of random weights."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from argon2 import PasswordHasher
from PIL import Image
from sqlalchemy import Engine

from mmmed.data import dicomweb
from mmmed.errors import ImageError
from mmmed.serving.accounts.accounts import Accounts
from mmmed.serving.accounts.passwords import Passwords
from mmmed.serving.accounts.user import Role, User
from mmmed.serving.database.engine import open_database
from mmmed.serving.database.upgrade import upgrade
from mmmed.serving.uploads import reading
from mmmed.serving.uploads.folder import Uploads
from mmmed.serving.uploads.reader import Reader
from mmmed.serving.web.seen import SeenLog
from mmmed.serving.web.settings import TOKEN
from tests.orthanc import PASSWORD as ARCHIVE_PASSWORD
from tests.orthanc import USER as ARCHIVE_USER
from tests.orthanc import running_orthanc

PASSWORD = "seven green kettles"
CHEAP = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
"""As safe as a test needs."""
PEOPLE = (
    User("rita", "Reader^Rita", "", Role.READER),
    User("anna", "Arzt^Anna", "R-100", Role.RADIOLOGIST),
    User("bert", "Berg^Bert", "R-200", Role.RADIOLOGIST),
    User("adam", "Admin^Adam", "", Role.ADMIN),
)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def pass_(self, **time: float) -> None:
        self.moment += timedelta(**time)


@pytest.fixture
def hands() -> Hands:
    return Hands()


def postgres_programs() -> Path | None:
    """Folder with PostgreSQL's server programs, where there are any."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    return found[0].parent if found else None


def wait_for(ready: Callable[[], bool], *, seconds: float = 60) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """A PostgreSQL server of this test run alone; makes empty databases and gives their URLs."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed")
    # The server refuses to run as the superuser, as whom tests run in containers.
    as_other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if as_other and shutil.which("setpriv") is None:
        pytest.skip("setpriv is needed to start PostgreSQL as another user")
    with tempfile.TemporaryDirectory(prefix="postgres") as folder:
        if as_other:
            os.chown(folder, 65534, 65534)

        def run(program: str, *arguments: str) -> None:
            command = [*as_other, str(programs / program), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr

        data = f"{folder}/data"
        run("initdb", "--pgdata", data, "--username", "mmmed", "--auth", "trust", "--no-sync", "--encoding", "UTF8")
        # Only through a socket file in this folder: nothing listens to a network.
        settings = ("fsync=off", "listen_addresses=", f"unix_socket_directories={folder}")
        command = [*as_other, str(programs / "postgres"), "-D", data]
        with Path(folder, "log").open("w") as log:
            options = [word for setting in settings for word in ("-c", setting)]
            server = subprocess.Popen([*command, *options], stdout=log, stderr=log, cwd=folder)
        wait_for(lambda: subprocess.run([programs / "pg_isready", "-h", folder], capture_output=True).returncode == 0)
        count = 0

        def make() -> str:
            nonlocal count
            count += 1
            run("createdb", "--host", folder, "--username", "mmmed", f"test{count}")
            return f"postgresql://mmmed@/test{count}?host={folder}"

        try:
            yield make
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=60)


EACH = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
"""Runs a test on both kinds of database."""


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a real Orthanc's DICOMweb service, whose password stands in the environment."""
    monkeypatch.setenv(dicomweb.USER, ARCHIVE_USER)
    monkeypatch.setenv(dicomweb.PASSWORD, ARCHIVE_PASSWORD)
    with running_orthanc() as url:
        yield f"{url}/dicom-web"


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, of SQLite unless `EACH` says otherwise."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path}/database/mmmed.sqlite"
    made: str = request.getfixturevalue("postgres")()
    return made


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An empty database, up to date."""
    engine = open_database(url)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def accounts(engine: Engine, hands: Hands) -> Accounts:
    """Accounts of a reader, two radiologists and an admin, all with one password."""
    accounts = Accounts(engine, passwords=CHEAP, clock=hands)
    for user in PEOPLE:
        accounts.add(user, PASSWORD)
    return accounts


def log_in(client: Any, name: str, password: str = PASSWORD) -> Any:
    """Log in as a browser does: load the form, and send it."""
    client.cookies.clear()
    form = client.get("/login").text
    csrf = re.findall(r'name="csrf" value="([^"]+)"', form)[0]
    return client.post("/login", data={"name": name, "password": password, "csrf": csrf})


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)


@pytest.fixture
def film() -> bytes:
    """A picture as a visitor sends it."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def session(make_model: Callable[..., Any], make_processor: Callable[..., Any]) -> Any:
    from mmmed.inference.session import Session

    model = make_model(initializer_range=0.3)
    return Session(model, make_processor(model, max_length=512), device="cpu")


@pytest.fixture
def lenient() -> Any:
    """A policy that lets everything stand but one word, since a model of random weights says anything."""
    from mmmed.safety.policy import Judgement, Policy
    from mmmed.safety.policy_rules import Decision

    class Lenient(Policy):
        def judge_question(self, text: str) -> Judgement:
            if "morphine" in text:
                words = "That cannot be answered here."
                return Judgement(decision=Decision.REFUSE, words=words, rules=("forbidden",))
            return Judgement(decision=Decision.ALLOW)

        def judge_answer(self, question: str, text: str) -> Judgement:
            return self.judge_question(f"{question} {text}")

    return Lenient.load()


@pytest.fixture
def served(session: Any, lenient: Any) -> Any:
    from mmmed.serving.answering.engine import Engine
    from mmmed.serving.answering.served import Served

    return Served(name="tiny", engine=Engine(session), policy=lenient)


@pytest.fixture
def uploads(tmp_path: Path) -> Any:
    """Kept in a folder of the test and read in its own process, which starts at once."""
    return Uploads(tmp_path / "uploads", reader=ReaderHere(0))


@pytest.fixture
def seen(tmp_path: Path) -> SeenLog:
    """A log of who saw what."""
    return SeenLog(tmp_path / "seen.jsonl")


@pytest.fixture
def studies(tmp_path: Path, served: Any) -> Any:
    """A log of what was asked about."""
    from mmmed.serving.monitoring.study_log import StudyLog

    return StudyLog(tmp_path / "studies.jsonl", served.engine, model="tiny")


CHROMIUM = shutil.which("chromium")


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox cannot be had as the superuser, as whom tests run in containers.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serves an application in a thread of its own, and gives its address."""
    with ExitStack() as stack:

        def run(app: Any) -> str:
            listening = socket.create_server(("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            wait_for(lambda: server.started or not thread.is_alive())
            assert server.started, "the server did not start"
            return f"http://127.0.0.1:{listening.getsockname()[1]}"

        yield run


class ReaderHere(Reader):
    """Reads without a process of its own, which takes seconds to start."""

    async def read(self, file: Path, folder: Path) -> dict[str, Any]:
        told = json.loads(json.dumps(reading.answer(json.dumps({"file": str(file), "folder": str(folder)}))))
        if "fault" in told:
            raise ImageError(told["fault"])
        return dict(told["read"])
