"""MedQA: questions in the style of the US medical licensing examination (Jin et al., Applied Sciences 2021)."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmmed.data.choice import TOPIC, by_letter, choice, lettered
from mmmed.data.entries import Entry, plain, read_json_lines
from mmmed.data.official import HeldOut
from mmmed.data.question import about_text
from mmmed.data.tabular import no_layout, present, quarantine
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined, Split


class _File(NamedTuple):
    """One file, and its split as published and as read here."""

    name: str
    official: str
    split: Split


_FILES = (
    _File("phrases_no_exclude_test.jsonl", "test", "test"),
    _File("medqa_us_test.jsonl", "test", "test"),
    _File("phrases_no_exclude_dev.jsonl", "dev", "validation"),
    _File("phrases_no_exclude_train.jsonl", "train", "train"),
)
_FOLDERS = (".", "data_clean/questions/US/4_options", "questions/US/4_options", "4_options")


class MedQa:
    """Reads the four-option US questions of the release (phrases_no_exclude_*.jsonl), also as the hub has them, or a
    sample of the test set (medqa_us_test.jsonl).

    The official splits are kept; a question that stands in two is learned from in none but the first of test, dev
    and train.

    Args:
        root: Folder with the files, or the unpacked release.
    """

    name = "medqa"

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions of test, dev and train set, in the order of the files.

        Raises:
            DataError: There is no such file, or one lacks a field.
        """
        held_out = HeldOut("question")
        for path, file in self._files():
            entries = read_json_lines(path, columns=("question", "options", "answer", "meta_info"))
            yield from quarantine(self.name, entries, partial(_examples, file=file, held_out=held_out))

    def _files(self) -> list[tuple[Path, _File]]:
        for folder in _FOLDERS:
            found = [(path, file) for file in _FILES if (path := self.root / folder / file.name).is_file()]
            if found:
                return found
        raise no_layout(self.name, root=self.root, expected="phrases_no_exclude_*.jsonl or medqa_us_test.jsonl")


def _examples(entry: Entry, *, file: _File, held_out: HeldOut) -> Iterator[Example]:
    # The release numbers nothing; a line keeps its number as long as the file is the publisher's.
    identifier = entry.maybe("id") or f"{file.official}-{int(entry.place.rpartition(':')[2]) - 1:04}"
    question = entry.text("question")
    unit = held_out.admit(plain(question), split=file.split, name=identifier)
    texts = lettered(entry.inner("options").values)
    # In the release `answer` is a text and `answer_idx` its letter, in the sample `answer` is the letter.
    chosen = choice(texts, right=by_letter(entry.maybe("answer_idx") or entry.text("answer"), len(texts)))
    if "answer_idx" in entry.values and " ".join(entry.text("answer").split()) != chosen.answer:
        raise RecordError(f"'answer' is {entry.text('answer')!r}, but 'answer_idx' names {chosen.answer!r}")
    yield Example(
        id=identifier,
        patient=unit,
        turns=about_text(question, chosen.answer),
        options=chosen.options,
        topic=TOPIC,
        split=file.split,
        source=MedQa.name,
        attributes=present({"step": entry.maybe("meta_info"), "official_split": file.official}),
    )
