"""MedQuAD: consumers' questions about diseases, answered by NIH sites (Ben Abacha, Demner-Fushman 2019)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from mmmed.data.entries import Entry, plain, read_json_lines
from mmmed.data.parquet import read_parquet
from mmmed.data.question import about_text
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import no_layout, present, quarantine
from mmmed.records import Example, Quarantined

_SAMPLE = "medquad_sample.jsonl"
_HUB = "data/*.parquet"
_RELEASE = "*_QA*/*.xml"
# What is read from the hub, and what the same is called here.
_OF_HUB = {
    "question_id": "id",
    "document_source": "source",
    "question_focus": "focus",
    "question_type": "qtype",
    "question": "question",
    "answer": "answer",
}


class MedQuad:
    """Reads the release (folders of XML such as 1_CancerGov_QA/), the hub's parquet (data/), or a sample
    (medquad_sample.jsonl).

    Questions are formed from a few templates for each disease; the splits go by disease (the "focus"), so that no
    disease is both learned and asked about. White space in answers becomes single spaces.

    Args:
        root: Folder with the files.
        seed: Changes which diseases fall into which split.
        fractions: Share of the diseases in each split.
    """

    name = "medquad"

    def __init__(self, root: str, *, seed: int = 0, fractions: Fractions = DEFAULT_FRACTIONS) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions in the order of the files; those whose answer was withdrawn are set aside.

        Raises:
            DataError: There is no such file, or one lacks a field.
        """
        yield from quarantine(self.name, self._entries(), self._examples)

    def _entries(self) -> Iterator[Entry]:
        sample = self.root / _SAMPLE
        if sample.is_file():
            return (_numbered(entry) for entry in read_json_lines(sample, columns=("id", *list(_OF_HUB.values())[1:])))
        if documents := sorted(self.root.glob(_RELEASE)):
            return (entry for path in documents for entry in _document(path))
        if tables := sorted(self.root.glob(_HUB)):
            rows = read_parquet(tables, columns=list(_OF_HUB))
            return (Entry(row.place, {here: row.values[there] for there, here in _OF_HUB.items()}) for row in rows)
        raise no_layout(self.name, root=self.root, expected=f"folders of XML ({_RELEASE}), {_HUB} or {_SAMPLE}")

    def _examples(self, entry: Entry) -> Iterator[Example]:
        identifier = entry.text("id")
        focus = plain(entry.maybe("focus")) or identifier
        yield Example(
            id=identifier,
            patient=focus,
            turns=about_text(" ".join(entry.text("question").split()), " ".join(entry.text("answer").split())),
            topic="answer",
            split=assign(focus, seed=self.seed, fractions=self.fractions),
            source=self.name,
            attributes=present({"collection": entry.maybe("source"), "question_type": entry.maybe("qtype")}),
        )


def _document(path: Path) -> Iterator[Entry]:
    place = f"{path.parent.name}/{path.name}"
    try:
        document = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        yield Entry(place, fault=f"no XML ({error})")
        return
    shared: Mapping[str, object] = {"source": path.parent.name, "focus": document.findtext("Focus")}
    for pair in document.iter("QAPair"):
        question = pair.find("Question")
        asked: dict[str, str | None] = {"id": None, "qtype": None, "question": None}
        if question is not None:
            asked = {"id": question.get("qid"), "qtype": question.get("qtype"), "question": question.text}
        yield Entry(f"{place}#{pair.get('pid')}", {**shared, **asked, "answer": pair.findtext("Answer")})


def _numbered(entry: Entry) -> Entry:
    # The sample keeps the number of the document only, and several questions come from one.
    if entry.fault:
        return entry
    line = entry.place.rpartition(":")[2]
    return Entry(entry.place, {**entry.values, "id": f"{entry.maybe('id')}:{line}"})
