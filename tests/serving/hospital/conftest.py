"""Signed drafts of films that came as DICOM objects."""

from collections.abc import Callable

import pytest
from pydicom import Dataset
from pydicom.uid import ComputedRadiographyImageStorage
from sqlalchemy import Engine

from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.desk.draft import NewDraft, Picture
from mmmed.serving.hospital.header import header_of

from ..conftest import PEOPLE, Hands
from ..desk.conftest import request

_, ANNA, BERT, _ = PEOPLE
TEXT = "No pleural effusion."
BETTER = "Small left pleural effusion."


def film() -> Dataset:
    """The attributes of a film of a made-up patient."""
    film = Dataset()
    film.SOPClassUID = ComputedRadiographyImageStorage
    film.SOPInstanceUID, film.SeriesInstanceUID, film.StudyInstanceUID = "2.25.3", "2.25.2", "2.25.1"
    film.PatientID, film.PatientName, film.PatientSex, film.PatientBirthDate = "P-17", "Muster^Erika", "F", "19500102"
    film.StudyDate, film.StudyTime, film.StudyID, film.AccessionNumber = "20260301", "101500", "S1", "A-42"
    film.Modality, film.BodyPartExamined, film.InstitutionName = "CR", "CHEST", "Trial Hospital"
    film.ReferringPhysicianName = "Zuweiser^Zoe"
    film.OperatorsName = "Nobody^Needs"
    film.Rows = film.Columns = 8
    return film


@pytest.fixture
def make_desk(engine: Engine, hands: Hands) -> Callable[..., Desk]:
    def make(**rules: object) -> Desk:
        told = {"destinations": ("dicom", "fhir")} | rules
        return Desk(engine, rules=Rules(**told), clock=hands)  # type: ignore[arg-type]

    return make


@pytest.fixture
def hand_in() -> Callable[..., str]:
    def make(desk: Desk, *, dicom: bool = True) -> str:
        picture = Picture(b"\x89PNG film", header_of(film()) if dicom else b"")
        draft = NewDraft(
            text=TEXT,
            question="Is there an effusion?",
            model="quickstart",
            model_version="0" * 64,
            uncertainty=0.25,
            pictures=(picture,),
        )
        return desk.hand_in(draft, by="rita", request=request())

    return make


@pytest.fixture
def sign(hands: Hands) -> Callable[[Desk, str], None]:
    """Let people take a draft, amend it and sign it."""

    def run(desk: Desk, id: str) -> None:
        hands.pass_(minutes=3)
        desk.take(id, by=ANNA, request=request())
        desk.amend(id, BETTER, by=ANNA, request=request())
        if desk.rules.two_people:
            desk.approve(id, by=ANNA, request=request())
            desk.take(id, by=BERT, request=request())
            desk.sign(id, by=BERT, request=request())
        else:
            desk.sign(id, by=ANNA, request=request())

    return run
