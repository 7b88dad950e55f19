"""MMLU-medical: the six medical subjects of a test of knowledge (Hendrycks et al., ICLR 2021)."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from mmmed.data.choice import LETTERS, TOPIC, Choice, by_letter, choice, lettered
from mmmed.data.entries import Entry, plain, read_json_lines
from mmmed.data.official import HeldOut
from mmmed.data.parquet import read_parquet
from mmmed.data.question import about_text
from mmmed.data.tabular import no_layout, quarantine, read_headless_csv
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined, Split

Subject = Literal[
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)

_CELLS = ("question", "A", "B", "C", "D", "answer")


class _Set(NamedTuple):
    """A set of the publisher: its names in the release and on the hub, and the split it is here."""

    official: str
    hub: str
    split: Split


# The five questions of "dev" are the examples of few-shot prompts.
_SETS = (_Set("test", "test", "test"), _Set("val", "validation", "validation"), _Set("dev", "dev", "train"))


class MmluMedical:
    """Reads the release (data/test/SUBJECT_test.csv and so on), the hub's parquet (SUBJECT/test-*.parquet), or a
    sample (mmlu_SUBJECT_test.jsonl).

    A subject without a test file is an error and not a smaller test: published figures weigh all six by their size.

    Args:
        root: Folder with the release, the clone of the hub, or the sample.
        subjects: Which subjects are read.
    """

    name = "mmlu_medical"

    def __init__(self, root: str, *, subjects: Sequence[Subject] = SUBJECTS) -> None:
        if unknown := [subject for subject in subjects if subject not in SUBJECTS]:
            raise ConfigError(f"mmlu_medical: there is no subject {unknown[0]!r}; known: {', '.join(SUBJECTS)}")
        self.root = Path(root)
        self.subjects = tuple(subjects)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions of test, validation and few-shot sets, subject by subject.

        Raises:
            DataError: A subject has no test file, or a file lacks a field.
        """
        for subject in self.subjects:
            held_out = HeldOut("question")
            found = [(place, entries) for place in _SETS if (entries := self._entries(subject, place)) is not None]
            if not any(place.split == "test" for place, _ in found):
                raise self._missing(subject)
            for place, entries in found:
                read = partial(_examples, subject=subject, place=place, held_out=held_out)
                yield from quarantine(self.name, entries, read)

    def _entries(self, subject: str, place: _Set) -> Iterator[Entry] | None:
        for folder in (self.root / "data" / place.official, self.root / place.official):
            path = folder / f"{subject}_{place.official}.csv"
            if path.is_file():
                return (Entry(row.place, row.cells, row.fault) for row in read_headless_csv(path, columns=_CELLS))
        if paths := sorted((self.root / subject).glob(f"{place.hub}-*.parquet")):
            return read_parquet(paths, columns=("question", "choices", "answer"))
        path = self.root / f"mmlu_{subject}_{place.official}.jsonl"
        return read_json_lines(path, columns=("question", "options", "answer")) if path.is_file() else None

    def _missing(self, subject: str) -> DataError:
        error = no_layout(self.name, root=self.root, expected=f"the test questions of {subject}")
        return DataError(f"{error}; or leave {subject} out of `subjects`, and say so beside the result")


def _examples(entry: Entry, *, subject: str, place: _Set, held_out: HeldOut) -> Iterator[Example]:
    identifier = entry.maybe("id") or f"{subject}-{place.official}-{_number(entry.place)}"
    question = entry.text("question")
    chosen = _choice(entry)
    # Two questions may read alike and differ in their options.
    content = plain(" ".join((question, *sorted(chosen.options))))
    yield Example(
        id=identifier,
        patient=held_out.admit(content, split=place.split, name=identifier),
        turns=about_text(question, chosen.answer),
        options=chosen.options,
        topic=TOPIC,
        split=place.split,
        source=MmluMedical.name,
        attributes={"subject": subject, "official_split": place.official},
    )


def _choice(entry: Entry) -> Choice:
    if "choices" in entry.values:
        return choice(entry.texts("choices"), right=entry.whole("answer"))
    if "options" in entry.values:
        texts = lettered(entry.inner("options").values)
    else:
        texts = [entry.text(letter) for letter in LETTERS[:4]]
    return choice(texts, right=by_letter(entry.text("answer"), len(texts)))


def _number(place: str) -> str:
    return "".join(character if character.isdigit() else " " for character in place.rpartition(".")[2]).strip()
