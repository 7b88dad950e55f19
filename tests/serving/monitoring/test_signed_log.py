"""What was signed at the desk comes into the log of studies, and agreement is seen."""

from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import Engine

from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.hospital.delivery import Courier
from mmmed.serving.hospital.header import header_of
from mmmed.serving.monitoring.record import Study, append, read_log
from mmmed.serving.monitoring.signals import agreement
from mmmed.serving.monitoring.signed_log import SignedLog, groups_of

from ..conftest import PEOPLE, Hands
from ..desk.conftest import request
from ..hospital.conftest import film

_, ANNA, _, _ = PEOPLE
QUESTION = "Is there a pleural effusion?"


@pytest.fixture
def desk(engine: Engine, hands: Hands) -> Desk:
    return Desk(engine, rules=Rules(destinations=("log",)), clock=hands)


def sign(desk: Desk, study: str, *, text: str = "No.", amended: str = "") -> None:
    picture = Picture(b"\x89PNG film", header_of(film()))
    id = desk.hand_in(
        NewDraft(text=text, question=QUESTION, model="m", pictures=(picture,), study=study),
        by="rita",
        request=request(),
    )
    desk.take(id, by=ANNA, request=request())
    if amended:
        desk.amend(id, amended, by=ANNA, request=request())
    desk.sign(id, by=ANNA, request=request())


def study(code: str) -> Study:
    said = {"effusion": "denied", "nodule": "stated"}
    return Study(study=code, time="2026-03-01T11:00:00+00:00", model="m", findings=said)  # type: ignore[arg-type]


def test_a_signed_report_is_held_against_what_the_model_said(desk: Desk, tmp_path: Path) -> None:
    log = tmp_path / "studies.jsonl"
    for code in ("s1", "s2", "s3"):
        append(log, study(code))
    sign(desk, "s1", amended="Small left pleural effusion.")
    sign(desk, "s2")
    sign(desk, "")  # a question without a picture is no study
    courier = Courier(desk, {"log": SignedLog(log)})
    courier.deliver()
    assert courier.deliver() == 0
    read = read_log(log)
    assert read.quarantined == () and [one.study for one in read.signed] == ["s1", "s2"]
    corrected, confirmed = read.signed
    assert corrected.groups == {"sex": "F", "age": "70-79"}
    assert corrected.findings == {"effusion": "stated"}, "of what was asked alone"
    studies = {one.study: one for one in read.studies}
    assert [agreement(studies[one.study], one) for one in (corrected, confirmed)] == [0.0, 1.0]
    assert "Muster" not in log.read_text() and "Small" not in log.read_text()


def test_a_signature_whose_line_was_not_written_is_tried_again(desk: Desk, tmp_path: Path, hands: Hands) -> None:
    sign(desk, "s1")
    blocked = tmp_path / "not_a_folder"
    blocked.write_text("")
    assert Courier(desk, {"log": SignedLog(blocked / "studies.jsonl")}).deliver() == 0
    hands.pass_(minutes=1)
    log = tmp_path / "studies.jsonl"
    append(log, study("s1"))
    assert Courier(desk, {"log": SignedLog(log)}).deliver() == 1
    assert [one.study for one in read_log(log).signed] == ["s1"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
@pytest.mark.parametrize(
    ("born", "seen", "sex", "groups"),
    [
        ("19500102", "20260301", "F", {"sex": "F", "age": "70-79"}),
        ("19300302", "20260301", "M", {"sex": "M", "age": "90+"}),
        ("20260301", "20260301", "", {"age": "0-9"}),
        ("", "20260301", "X", {}),
        ("born in May", "20260301", "F", {"sex": "F"}),
    ],
)
def test_groups_are_coarse(born: str, seen: str, sex: str, groups: dict[str, str]) -> None:
    header = Dataset()
    header.PatientBirthDate, header.StudyDate, header.PatientSex = born, seen, sex
    assert groups_of(header, {}) == groups


def test_what_the_draft_says_of_the_patient_comes_first() -> None:
    assert groups_of(film(), {"sex": "M", "age": 41.0}) == {"sex": "M", "age": "40-49"}


def test_only_what_is_final_is_written(engine: Engine, hands: Hands, tmp_path: Path) -> None:
    desk = Desk(engine, rules=Rules(preliminary=True, destinations=("log",)), clock=hands)
    desk.hand_in(NewDraft(text="No.", question=QUESTION, model="m", study="s1"), by="rita", request=request())
    assert Courier(desk, {"log": SignedLog(tmp_path / "log")}).deliver() == 1
    assert not (tmp_path / "log").exists()
