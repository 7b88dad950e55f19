from collections.abc import Callable, Iterator

import pytest

from mmmed.data.documents import Documents, Part
from mmmed.errors import ConfigError, RecordError
from mmmed.records import Example, Quarantined, Turn

ASKED = Example(
    id="7",
    patient="p",
    turns=(Turn("system", "Be short."), Turn("user", "Abstract. Is it so?"), Turn("assistant", "yes")),
    options=("yes", "no"),
    topic="decision",
    split="test",
    source="pubmedqa",
)


class Listed:
    name = "pubmedqa"

    def __init__(self, *records: Example | Quarantined) -> None:
        self.listed = records

    def prepare(self) -> None:
        pass

    def records(self) -> Iterator[Example | Quarantined]:
        yield from self.listed


@pytest.mark.parametrize(
    ("part", "text"), [("questions", "Abstract. Is it so?"), ("answers", "yes"), ("both", "Abstract. Is it so?\nyes")]
)
def test_a_document_keeps_the_split_and_the_patient_of_its_example(part: Part, text: str) -> None:
    aside = Quarantined("pubmedqa", "8", "faulty")
    document, other = Documents(Listed(ASKED, aside), part=part).records()
    assert isinstance(document, Example)
    assert (document.turns, document.options) == ((Turn("document", text),), ())
    assert (document.split, document.patient, document.source) == ("test", "p", "pubmedqa")
    assert other == aside


def test_long_documents_are_cut() -> None:
    found = list(Documents(Listed(ASKED), part="questions", longest=10).records())
    assert [one.turns[0].text for one in found if isinstance(one, Example)] == ["Abstract.", "Is it so?"]


def test_pictures_are_no_text(make_example: Callable[..., Example]) -> None:
    with pytest.raises(RecordError, match="has images"):
        list(Documents(Listed(make_example("a", "Is it?", "yes", 3))).records())


def test_there_is_no_such_part() -> None:
    with pytest.raises(ConfigError, match="part is 'all'"):
        Documents(Listed(), part="all")  # type: ignore[arg-type]
