"""The desk is opened only where somebody has an account, and an altered history is an error."""

from pathlib import Path

import pytest
from sqlalchemy import text

from mmmed.cli.main import main
from mmmed.serving.accounts.user import Role, User
from mmmed.serving.database.engine import open_database, writing
from mmmed.serving.database.upgrade import upgrade
from mmmed.serving.desk.desk import Desk
from mmmed.serving.desk.draft import NewDraft

ANNA = User("anna", "Arzt^Anna", "", Role.RADIOLOGIST)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/mmmed.sqlite"
    monkeypatch.setenv("MMMED_DATABASE", url)
    return url


def test_an_intact_history_prints_its_head_and_an_altered_one_fails(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = open_database(url)
    upgrade(engine)
    desk = Desk(engine)
    id = desk.hand_in(NewDraft(text="No effusion.", question="What?", model="m"), by="rita", request="request number 1")
    desk.take(id, by=ANNA, request="request number 2")
    assert main(["signoff", "verify"]) == 0
    told = capsys.readouterr().out
    assert "intact: 2 events of 1 drafts; head " in told
    head = told.split()[-1]
    assert main(["signoff", "verify", "--head", head]) == 0
    with writing(engine) as connection:
        connection.execute(text("DROP TRIGGER events_are_not_changed"))
        connection.execute(text("UPDATE events SET actor = 'bert' WHERE act = 'taken'"))
    engine.dispose()
    assert main(["signoff", "verify"]) == 2
    told_all = capsys.readouterr()
    assert "event 2 was altered" in told_all.out
    assert "history of sign-off was altered" in told_all.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "nobody has an account yet; make one with: mmmed accounts add"),
        (["--lock_minutes", "0"], "lock_minutes is 0"),
        (["--record", "https://anna:secret@example.org"], "holds a password; take it out and set MMMED_FHIR_TOKEN"),
    ],
)
def test_a_desk_that_cannot_be_opened_is_one_line(
    url: str, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["signoff", "serve", *options]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
