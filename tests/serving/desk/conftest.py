"""A desk with a draft on it."""

import itertools
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from mmmed.serving.desk.desk import Desk, Rules
from mmmed.serving.desk.draft import NewDraft, Picture

from ..conftest import Hands

TEXT = "No pleural effusion."
_numbers = itertools.count()


def request() -> str:
    """An identifier that no request had before."""
    return f"request {next(_numbers):012d}"


def draft(text: str = TEXT, **told: object) -> NewDraft:
    known = {"question": "What does this film show?", "model": "tiny", "model_version": "1" * 64}
    return NewDraft(text=text, **(known | {"pictures": (Picture(b"png", b"header"),)} | told))  # type: ignore[arg-type]


@pytest.fixture
def make_desk(engine: Engine, hands: Hands) -> Callable[..., Desk]:
    def make(**rules: object) -> Desk:
        return Desk(engine, rules=Rules(**rules), clock=hands)  # type: ignore[arg-type]

    return make


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk(destinations=("dicom", "fhir"))
