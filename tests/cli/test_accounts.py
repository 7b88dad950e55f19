"""The first admin is made on the command line, with a password that never stands there."""

from pathlib import Path

import pytest

from mmmed.cli.main import main


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMMED_DATABASE", f"sqlite:///{tmp_path}/mmmed.sqlite")


def test_an_account_is_made_listed_and_disabled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMED_PASSWORD", "seven green kettles")
    assert main(["accounts", "add", "adam", "--role", "admin", "--full_name", "Adams, Ada"]) == 0
    assert main(["accounts", "disable", "adam"]) == 0
    assert main(["accounts", "list"]) == 0
    assert "adam  admin  Adams, Ada  (disabled)" in capsys.readouterr().out


def test_without_a_password_nobody_gets_an_account(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MMMED_PASSWORD", raising=False)
    assert main(["accounts", "add", "adam", "--role", "admin", "--full_name", "Adams, Ada"]) == 2
    assert "set MMMED_PASSWORD" in capsys.readouterr().err
    assert main(["accounts", "list"]) == 0
    assert capsys.readouterr().out == ""
