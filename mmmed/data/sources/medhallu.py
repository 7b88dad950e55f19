"""MedHallu: right and hallucinated answers to the questions of PubMedQA (Pandit et al. 2025, arXiv 2502.14302)."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmmed.data.entries import Entry, plain, read_json_lines
from mmmed.data.official import HeldOut
from mmmed.data.parquet import read_parquet
from mmmed.data.question import YES_NO, about_text, yes_no
from mmmed.data.splits import Fractions, assign
from mmmed.data.tabular import no_layout, present, quarantine
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined, Split

QUESTION = "Is this answer hallucinated?"

_COLUMNS = (
    "Question",
    "Knowledge",
    "Ground Truth",
    "Difficulty Level",
    "Hallucinated Answer",
    "Category of Hallucination",
)


class _Part(NamedTuple):
    """A part of the data set, and the split it is here."""

    name: str
    split: Split


_PARTS = (_Part("pqa_labeled", "test"), _Part("pqa_artificial", "train"))


class MedHallu:
    """Reads the hub's parquet (pqa_labeled/, pqa_artificial/), or a sample (medhallu_pqa_labeled.jsonl).

    Each question yields two examples, one with the true and one with the hallucinated answer, and whoever reads it
    says which of them it is. The thousand labelled questions are tested on, the artificial ones learned from.

    All labelled questions are those of PubMedQA and half of them its test questions: a model that was trained on
    PubMedQA has seen the other half.

    Args:
        root: Folder with the parts.
        knowledge: Whether the abstract stands before the question.
        seed: Changes which artificial questions validate.
        validation: Share of the artificial questions that validates.
    """

    name = "medhallu"

    def __init__(self, root: str, *, knowledge: bool = True, seed: int = 0, validation: float = 0.05) -> None:
        self.root = Path(root)
        self.knowledge = knowledge
        self.seed = seed
        self.fractions = Fractions(1 - validation, validation, 0.0)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions of the labelled, then of the artificial part, in the order of the files.

        Raises:
            DataError: There is no such part, or it lacks a field.
        """
        held_out = HeldOut("question")
        found = [(part, entries) for part in _PARTS if (entries := self._entries(part)) is not None]
        if not found:
            raise no_layout(self.name, root=self.root, expected="pqa_labeled/*.parquet or medhallu_pqa_labeled.jsonl")
        for part, entries in found:
            numbered = (
                Entry(entry.place, {**entry.values, "number": number}, entry.fault)
                for number, entry in enumerate(entries)
            )
            yield from quarantine(self.name, numbered, partial(self._examples, part=part, held_out=held_out))

    def _entries(self, part: _Part) -> Iterator[Entry] | None:
        if tables := sorted((self.root / part.name).glob("*.parquet")):
            return read_parquet(tables, columns=_COLUMNS)
        sample = self.root / f"medhallu_{part.name}.jsonl"
        return read_json_lines(sample, columns=_COLUMNS) if sample.is_file() else None

    def _examples(self, entry: Entry, *, part: _Part, held_out: HeldOut) -> Iterator[Example]:
        identifier = f"{part.name}-{entry.whole('number'):04}"
        question = entry.text("Question")
        answers = {"true": entry.text("Ground Truth"), "hallucinated": entry.text("Hallucinated Answer")}
        if plain(answers["true"]) == plain(answers["hallucinated"]):
            raise RecordError("the hallucinated answer is the true one")
        unit = held_out.admit(plain(question), split=part.split, name=identifier)
        split = assign(unit, seed=self.seed, fractions=self.fractions) if part.split == "train" else part.split
        knowledge = "\n".join(entry.texts("Knowledge")) + "\n\n" if self.knowledge else ""
        for kind, answer in answers.items():
            yield Example(
                id=f"{identifier}:{kind}",
                patient=unit,
                turns=about_text(
                    f"{knowledge}Question: {question}\nAnswer: {answer}\n\n{QUESTION}", yes_no(kind == "hallucinated")
                ),
                options=YES_NO,
                topic="hallucination",
                split=split,
                source=self.name,
                attributes=present(
                    {
                        "difficulty": entry.maybe("Difficulty Level"),
                        "category": entry.maybe("Category of Hallucination"),
                        "official_split": part.name,
                    }
                ),
            )
