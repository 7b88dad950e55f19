"""MedMCQA: questions of Indian medical entrance examinations with four options (Pal et al., CHIL 2022)."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmmed.data.choice import TOPIC, by_letter, choice, lettered
from mmmed.data.entries import Entry, plain, read_json_lines
from mmmed.data.official import HeldOut
from mmmed.data.parquet import read_parquet
from mmmed.data.question import about_text
from mmmed.data.splits import Fractions, assign
from mmmed.data.tabular import no_layout, present, quarantine
from mmmed.errors import DataError, RecordError
from mmmed.records import Example, Quarantined, Split

logger = logging.getLogger(__name__)

_OPTIONS = ("opa", "opb", "opc", "opd")
_RELEASED = ("id", "question", *_OPTIONS, "cop", "subject_name", "topic_name", "choice_type")
_SAMPLED = ("id", "question", "options", "answer", "subject", "choice_type")


class _File(NamedTuple):
    """One file of a layout: its split as published and as read here, and the number of the first option in `cop`."""

    pattern: str
    official: str
    split: Split
    first: int


_LAYOUTS = (
    (_File("dev.json", "dev", "test", 1), _File("train.json", "train", "train", 1)),
    (_File("data/validation-*.parquet", "dev", "test", 0), _File("data/train-*.parquet", "train", "train", 0)),
    (_File("medmcqa_dev.jsonl", "dev", "test", 0), _File("medmcqa_train.jsonl", "train", "train", 0)),
)
_LAST = 4


class MedMcqa:
    """Reads the release (train.json, dev.json), the hub's parquet (data/), or a sample with options by letter.

    Answers of the official test set are not public, so that everyone scores the dev set: it is the test split here.
    What is learned from is the train set without questions that stand in the dev set too.

    Args:
        root: Folder with the files.
        seed: Changes which questions of the train set validate.
        validation: Share of the train set that validates.
    """

    name = "medmcqa"

    def __init__(self, root: str, *, seed: int = 0, validation: float = 0.02) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = Fractions(1 - validation, validation, 0.0)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions of the dev set, then those of the train set, in the order of the files.

        Raises:
            DataError: There is no such file, one lacks a field, or its answers are counted from another number than
                its layout counts from.
        """
        held_out = HeldOut("question")
        for file, paths in self._files():
            read = partial(self._examples, file=file, held_out=held_out)
            yield from quarantine(self.name, self._entries(file, paths), read)
        if any((self.root / name).exists() for name in ("test.json", "data/test-00000-of-00001.parquet")):
            logger.info("%s: the official test set has no public answers and is not read", self.name)

    def _files(self) -> list[tuple[_File, list[Path]]]:
        for layout in _LAYOUTS:
            found = [(file, paths) for file in layout if (paths := sorted(self.root.glob(file.pattern)))]
            if found:
                return found
        raise no_layout(self.name, root=self.root, expected="dev.json, data/validation-*.parquet or medmcqa_dev.jsonl")

    def _entries(self, file: _File, paths: list[Path]) -> Iterator[Entry]:
        if file.pattern.endswith(".parquet"):
            return _counted(read_parquet(paths, columns=_RELEASED), file)
        if file.pattern.endswith(".jsonl"):
            return read_json_lines(paths[0], columns=_SAMPLED)
        return _counted(read_json_lines(paths[0], columns=_RELEASED), file)

    def _examples(self, entry: Entry, *, file: _File, held_out: HeldOut) -> Iterator[Example]:
        identifier, question = entry.text("id"), entry.text("question")
        unit = held_out.admit(plain(question), split=file.split, name=identifier)
        if "cop" in entry.values:
            chosen = choice([entry.text(name) for name in _OPTIONS], right=entry.whole("cop") - file.first)
        else:
            texts = lettered(entry.inner("options").values)
            chosen = choice(texts, right=by_letter(entry.text("answer"), len(texts)))
        yield Example(
            id=identifier,
            patient=unit,
            turns=about_text(question, chosen.answer),
            options=chosen.options,
            topic=TOPIC,
            split=assign(unit, seed=self.seed, fractions=self.fractions) if file.split == "train" else file.split,
            source=self.name,
            attributes=present(
                {
                    "subject": entry.maybe("subject_name") or entry.maybe("subject"),
                    "area": entry.maybe("topic_name") or entry.maybe("topic"),
                    "choice_type": entry.maybe("choice_type"),
                    "official_split": file.official,
                }
            ),
        )


def _counted(entries: Iterator[Entry], file: _File) -> Iterator[Entry]:
    """Refuse a file whose answers are counted from another number: every one of them would be read as its neighbour."""
    for entry in entries:
        try:
            number = entry.whole("cop")
        except RecordError:
            number = file.first
        if number in (0, _LAST) and number != file.first and number != file.first + _LAST - 1:
            raise DataError(
                f"medmcqa: 'cop' of {entry.place} is {number}, but {file.pattern} counts the options from "
                f"{file.first} to {file.first + _LAST - 1}; give the file of the release or of the hub unchanged"
            )
        yield entry
