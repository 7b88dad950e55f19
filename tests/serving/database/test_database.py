"""What is committed stays, writers do not overtake each other, and the tables are those the code declares."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, insert, select, text

import mmmed.serving.accounts.tables
import mmmed.serving.desk.tables  # noqa: F401  (declares them)
from mmmed.errors import ConfigError, OutputError
from mmmed.serving.accounts.tables import ATTEMPTS
from mmmed.serving.database.engine import open_database, reading, writing
from mmmed.serving.database.tables import METADATA
from mmmed.serving.database.upgrade import upgrade

from ..conftest import EACH


@EACH
def test_the_migrations_make_exactly_the_tables_that_the_code_declares(engine: Engine) -> None:
    with writing(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


@EACH
def test_a_second_upgrade_changes_nothing_and_keeps_what_is_there(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(insert(ATTEMPTS).values(name="anna", at="2026"))
    upgrade(engine)
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(ATTEMPTS)).scalar_one() == 1


def test_a_database_of_a_later_version_is_refused(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'next_year'"))
    with pytest.raises(ConfigError, match="of a later version \\(next_year\\); update mmmed"):
        upgrade(engine)


@EACH
def test_several_processes_may_upgrade_at_once(url: str) -> None:
    faults: list[Exception] = []

    def work() -> None:
        engine = open_database(url)
        try:
            upgrade(engine)
        except Exception as error:
            faults.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    for turn in range(150):
        url = f"sqlite:///{tmp_path}/{turn}.sqlite"
        with ThreadPoolExecutor(8) as pool:
            for engine in pool.map(open_database, [url] * 8):
                engine.dispose()


def test_sqlite_waits_for_the_disk_and_is_for_its_owner_only(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/kept/one.sqlite")
    with reading(engine) as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    assert (tmp_path / "kept/one.sqlite").stat().st_mode & 0o777 == 0o600
    engine.dispose()


@EACH
def test_a_failed_transaction_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(RuntimeError), writing(engine) as connection:
        connection.execute(insert(ATTEMPTS).values(name="anna", at="2026"))
        raise RuntimeError
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(ATTEMPTS)).scalar_one() == 0


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("outputs/desk.sqlite", "expected sqlite:///PATH or postgresql://USER@HOST/NAME"),
        ("mysql://host/name", "'mysql' is not known|URL of the database is none"),
        ("postgresql://anna:secret@host/name", "holds a password; take it out and set PGPASSWORD"),
        ("sqlite://", "a database in memory forgets"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line_and_no_password(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as told:
        open_database(url)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write the database"):
        open_database(f"sqlite:///{tmp_path}/file/one.sqlite")
    (tmp_path / "text.sqlite").write_text("this is no database " * 100)
    with pytest.raises(OutputError, match=r"cannot open the database .*file is not a database"):
        open_database(f"sqlite:///{tmp_path}/text.sqlite")
