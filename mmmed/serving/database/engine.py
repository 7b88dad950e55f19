"""Opens the database so that what is committed stays, and writers come one after the other."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from mmmed.errors import ConfigError, OutputError

DEFAULT_URL = "sqlite:///outputs/serving/mmmed.sqlite"
VARIABLE = "MMMED_DATABASE"
"""Variable of the environment with the URL, where none is given."""

_PATIENCE = 30.0
"""Seconds that a writer waits for the one before it."""

_READING = "mmmed_reading"
_WRITERS = 7_060_515
"""Number of PostgreSQL's advisory lock that a writer holds; any number, but always this one."""


def open_database(url: str | None = None) -> Engine:
    """Connect to a database; its tables are those of the last migration only after `upgrade`.

    SQLite runs with a write-ahead log and waits for the disk at every commit, so that neither a killed process nor a
    power cut takes back what was confirmed. A password of PostgreSQL comes from the environment (`PGPASSWORD`) or
    from `~/.pgpass`.

    Args:
        url: `sqlite:///PATH` or `postgresql://USER@HOST/NAME`; None takes it from `MMMED_DATABASE`, or the default.

    Raises:
        ConfigError: The URL is none, holds a password, or names another kind of database.
        OutputError: The file cannot be made, or the server does not answer.
    """
    parsed = _parsed(url or os.environ.get(VARIABLE) or DEFAULT_URL)
    engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
    try:
        engine.connect().close()
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig else "no reason given"
        raise OutputError(f"cannot open the database {parsed.render_as_string()}: {reason}") from None
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write; all of it is kept, or nothing. Writers come one after the other."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, and keeps no writer waiting."""
    with engine.connect().execution_options(**{_READING: True}) as connection:
        yield connection


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError, SQLAlchemyError):
        raise ConfigError(
            "the URL of the database is none; expected sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"a database of kind {backend!r} is not known; use sqlite:///PATH or postgresql://HOST/NAME")
    if parsed.password:
        raise ConfigError("the URL of the database holds a password; take it out and set PGPASSWORD or write ~/.pgpass")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("a database in memory forgets what was signed; name a file: sqlite:///PATH")
    return parsed


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write the database {path}: {error.strerror or error}") from None
    engine = create_engine(url, connect_args={"timeout": _PATIENCE})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not guessed by the driver
        cursor = connection.cursor()
        _keep_a_log(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that takes the write lock late can fail half-way; writers take it first.
        kind = "DEFERRED" if connection.get_execution_options().get(_READING) else "IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _keep_a_log(cursor: sqlite3.Cursor) -> None:
    """Write ahead to a log; where others open the same new file, SQLite refuses at once instead of waiting its turn."""
    last = time.monotonic() + _PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > last:
                raise
            time.sleep(0.01)


def _postgresql(url: URL) -> Engine:
    engine = create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(_READING):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")

    return engine
