"""Objects that come into a folder become drafts, each once."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mmmed.errors import DataError
from mmmed.inference.generation import Decoding
from mmmed.inference.session import Session
from mmmed.records import Example
from mmmed.serving.answering.alone import Written, answer_alone
from mmmed.serving.desk.desk import Desk
from mmmed.serving.hospital.intake import Intake
from mmmed.serving.hospital.result import result_of
from mmmed.serving.monitoring.record import read_log
from mmmed.serving.monitoring.study_log import IntakeLog

from .conftest import film


class Parrot:
    """Says how large the picture is."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, example: Example) -> Written:
        self.asked += 1
        return Written(f"A picture of {example.images[0].open().size}.", 0.75)


def write(folder: Path, name: str, uid: str, *, pixels: bool = True) -> Path:
    dataset: Dataset = film()
    dataset.SOPInstanceUID = uid
    if pixels:
        dataset.Rows, dataset.Columns = 8, 16
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.PixelData = bytes(range(128))
    else:
        del dataset.Rows
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(exist_ok=True)
    path = folder / name
    dataset.save_as(path, enforce_file_format=True)
    os.utime(path, (1000, 1000))
    return path


@pytest.fixture
def make_intake(make_desk: Callable[..., Desk], tmp_path: Path) -> Callable[[], Intake]:
    def make() -> Intake:
        desk = make_desk(preliminary=True)
        return Intake(folder=tmp_path / "in", desk=desk, writer=Parrot(), question="What?", model="parrot")

    return make


def test_each_object_becomes_one_draft_also_after_a_restart(make_intake: Callable[[], Intake], tmp_path: Path) -> None:
    write(tmp_path / "in", "one.dcm", "2.25.31")
    write(tmp_path / "in", "two.dcm", "2.25.32")
    write(tmp_path / "in", "copy of two.dcm", "2.25.32")
    first = make_intake()
    assert first.look() == 2
    assert first.look() == 0
    again = make_intake()
    assert again.look() == 0
    assert again.writer.asked == 0  # type: ignore[attr-defined]
    (one, _) = first.desk.queue()
    opened = first.desk.open(one.id)
    assert opened.standing.text == "A picture of (16, 8)."
    assert (opened.facts.uncertainty, opened.facts.harm) == (0.25, 1.0)
    assert result_of(first.desk, one.id, "preliminary").headers[0].PatientID == "P-17"


def test_a_file_that_is_being_written_is_left_until_it_is_whole(
    make_intake: Callable[[], Intake], tmp_path: Path
) -> None:
    path = write(tmp_path / "in", "one.dcm", "2.25.31")
    intake = make_intake()
    intake.wall = lambda: 1001.0
    assert path.is_file()
    assert intake.look() == 0
    intake.wall = lambda: 1003.0
    assert intake.look() == 1


def test_what_is_no_picture_or_damaged_is_counted_and_not_named(
    make_intake: Callable[[], Intake], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "in", "report.dcm", "2.25.31", pixels=False)
    damaged = write(tmp_path / "in", "MUSTER_ERIKA.dcm", "2.25.32")
    damaged.write_bytes(damaged.read_bytes()[:-100])
    os.utime(damaged, (1000, 1000))
    write(tmp_path / "in", "three.dcm", "2.25.33")
    intake = make_intake()
    assert intake.look() == 1
    assert dict(intake.passed_over) == {"no image of a study": 1, "damaged": 1}
    assert "MUSTER" not in caplog.text


def test_an_empty_folder_waits_and_a_missing_one_is_told(make_intake: Callable[[], Intake], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        make_intake().look()
    (tmp_path / "in").mkdir()
    assert make_intake().look() == 0


def test_the_model_says_how_sure_it_is_what_may_harm_and_what_it_met(
    session: Session, make_desk: Callable[..., Desk], tmp_path: Path
) -> None:
    path = write(tmp_path / "in", "one.dcm", "2.25.31")
    log = tmp_path / "studies.jsonl"
    intake = Intake(
        folder=tmp_path / "in",
        desk=make_desk(),
        writer=lambda example: answer_alone(session, example, Decoding(max_new_tokens=5)),
        question="Is there a pneumothorax?",
        model="tiny",
        harm=lambda question, text: 20.0 if "pneumothorax" in question else 1.0,
        log=IntakeLog(log, session, model="tiny"),
    )
    assert intake.look() == 1
    (one,) = intake.desk.queue()
    facts = intake.desk.open(one.id).facts
    assert 0 < facts.uncertainty < 1 and facts.harm == 20
    assert one.priority == facts.uncertainty * 20
    (study,) = read_log(log).studies
    assert study.study == facts.study == hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    assert study.confidence == pytest.approx(1 - facts.uncertainty)
    assert study.pixels and study.embedding and study.findings.keys() == {"pneumothorax"}
