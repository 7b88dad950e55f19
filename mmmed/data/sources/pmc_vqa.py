"""PMC-VQA: a model's multiple-choice questions about figures of articles (Zhang et al. 2023, arXiv 2305.10415)."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.data.choice import LETTERS, TOPIC, Choice, by_letter, choice
from mmmed.data.entries import plain
from mmmed.data.official import HeldOut
from mmmed.data.question import about_image
from mmmed.data.splits import Fractions, assign
from mmmed.data.tabular import Row, index_images, indexed_image, no_layout, quarantine, read_csv
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined, Split

Edition = Literal["1", "1_clean", "2"]

_TRAINING: dict[Edition, str] = {"1": "train.csv", "1_clean": "train.csv", "2": "train_2.csv"}
_TESTING: dict[Edition, str] = {"1": "test.csv", "1_clean": "test_clean.csv", "2": "test_2.csv"}
_COLUMNS = ("Figure_path", "Question", "Choice A", "Choice B", "Choice C", "Choice D")
_FOLDERS = ("images", "figures")


class _File(NamedTuple):
    """One set: its file, and its split as published and as read here."""

    name: str
    official: str
    split: Split


class PmcVqa:
    """Reads the files of the hub: train.csv, test.csv or test_clean.csv with images/, or the second edition.

    Figures of one article tell of the same patients, so that whatever is of an article of the test set is left out
    of what is learned from.

    Args:
        root: Folder with the CSV files and the unpacked images/ or figures/.
        edition: "1" (all modalities), "1_clean" (the same, tested on the questions that people have checked) or
            "2" (fewer multi-panel figures).
        seed: Changes which articles of the training set validate.
        validation: Share of the articles of the training set that validates.
    """

    name = "pmc_vqa"

    def __init__(self, root: str, *, edition: Edition = "2", seed: int = 0, validation: float = 0.02) -> None:
        self.root = Path(root)
        self.edition: Edition = edition
        self.seed = seed
        self.fractions = Fractions(1 - validation, validation, 0.0)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions of the test set, then of the training set, in the order of the files.

        Raises:
            DataError: The files of the edition or the images are missing, or a file lacks a column.
        """
        test = _File(_TESTING[self.edition], "test", "test")
        train = _File(_TRAINING[self.edition], "train", "train")
        files = [file for file in (test, train) if (self.root / file.name).is_file()]
        folders = [folder for name in _FOLDERS if (folder := self.root / name).is_dir()]
        if not files or not folders:
            raise no_layout(
                self.name, root=self.root, expected=f"{train.name} and {test.name} with images/ or figures/"
            )
        images = index_images(folders)
        held_out = HeldOut("article")
        for file in files:
            rows = read_csv(self.root / file.name, columns=_COLUMNS)
            read = partial(self._examples, file=file, images=images, held_out=held_out)
            yield from quarantine(self.name, rows, read)

    def _examples(self, row: Row, *, file: _File, images: Mapping[str, Path], held_out: HeldOut) -> Iterator[Example]:
        figure = row.text("Figure_path")
        article = figure.partition("_")[0]
        identifier = f"{file.official}:{row.maybe('index') or row.place.rpartition(':')[2]}"
        chosen = _choice(row)
        held_out.admit(article, split=file.split, name=identifier)
        split = assign(article, seed=self.seed, fractions=self.fractions) if file.split == "train" else file.split
        yield Example(
            id=identifier,
            patient=article,
            turns=about_image(" ".join(row.text("Question").split()), chosen.answer),
            images=(indexed_image(images, Path(figure).name),),
            options=chosen.options,
            topic=TOPIC,
            split=split,
            source=self.name,
            attributes={"official_split": file.official},
        )


def _choice(row: Row) -> Choice:
    texts = [_without_letter(row.text(f"Choice {letter}"), letter) for letter in LETTERS[:4]]
    # The answer is a letter in the second edition; in the first it is a text, beside which stands the letter.
    answer = row.maybe("Answer") or row.maybe("Anwser")
    letter = row.maybe("Answer_label") or answer
    chosen = choice(texts, right=by_letter(letter, len(texts)))
    if row.maybe("Answer_label") and answer and plain(_without_letter(answer, letter)) != plain(chosen.answer):
        raise RecordError(f"the answer is {answer!r}, but its letter {letter!r} names {chosen.answer!r}")
    return chosen


def _without_letter(text: str, letter: str) -> str:
    """A choice such as ``A:Focal uptake`` without its letter."""
    return re.sub(rf"^\s*{re.escape(letter)}\s*[:.]\s*", "", text)
