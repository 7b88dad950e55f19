"""PathVQA: questions about pathology pictures, formed from captions (He et al. 2020, arXiv 2003.10286)."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import xxhash

from mmmed.data.entries import Entry, plain, read_json_lines
from mmmed.data.official import HeldOut
from mmmed.data.parquet import ParquetImage, picture_bytes, read_parquet
from mmmed.data.question import YES_NO, about_image
from mmmed.data.tabular import image_in, no_layout, quarantine
from mmmed.errors import DataError, RecordError
from mmmed.processing.image import ImageFile
from mmmed.records import Example, LazyImage, Quarantined, Split

Question = Literal["closed", "open"]


class _Set(NamedTuple):
    """One set: its names in the release and on the hub, and the split it is here."""

    official: str
    hub: str
    split: Split


_SETS = (_Set("test", "test", "test"), _Set("val", "validation", "validation"), _Set("train", "train", "train"))


class _Picture(NamedTuple):
    """A picture and what it is recognised by in whichever record it stands."""

    image: LazyImage
    content: str


class PathVqa:
    """Reads the hub's parquet (data/), or the release (pvqa/) with its pickled questions turned into JSON lines.

    A pickle can run code when it is opened, so qas/train/train_qa.pkl and its like are not read; the card says how to
    turn them into train_qa.jsonl once. "closed" are the yes/no questions. The official splits are kept; a picture
    that stands in two, byte by byte, is left out of the one that is learned from.

    Args:
        root: The clone of the hub, or the folder with images/ and qas/.
        questions: Which kinds of question are read; the others are left out without a count.
    """

    name = "path_vqa"

    def __init__(self, root: str, *, questions: Sequence[Question] = ("closed", "open")) -> None:
        self.root = Path(root)
        self.questions = tuple(questions)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions of test, validation and training set, in the order of the files.

        Raises:
            DataError: There is no such file, one lacks a field, or the questions are pickled.
        """
        held_out = HeldOut("picture")
        # Questions about one picture lie in rows of their own, each with a copy of it.
        first: dict[str, LazyImage] = {}
        asked: set[str] = set()
        for place, entries in self._sets():
            read = partial(self._examples, place=place, held_out=held_out, first=first, asked=asked)
            yield from quarantine(self.name, entries, read)

    def _sets(self) -> list[tuple[_Set, Iterator[Entry]]]:
        found: list[tuple[_Set, Iterator[Entry]]] = []
        for place in _SETS:
            tables = sorted(self.root.glob(f"data/{place.hub}-*.parquet"))
            pairs = self.root / "qas" / place.official / f"{place.official}_qa.jsonl"
            if tables:
                found.append((place, read_parquet(tables, columns=("image", "question", "answer"))))
            elif pairs.is_file():
                found.append((place, read_json_lines(pairs, columns=("image", "question", "answer"))))
        if not found and (pickled := sorted(self.root.glob("qas/*/*_qa.pkl"))):
            raise DataError(
                f"path_vqa: {pickled[0]} is a pickle, which can run code and is not read; "
                "turn it into JSON lines as the card data/path_vqa.md says, or take the hub's parquet"
            )
        if not found:
            raise no_layout(self.name, root=self.root, expected="data/train-*.parquet, or qas/train/train_qa.jsonl")
        return found

    def _examples(
        self, entry: Entry, *, place: _Set, held_out: HeldOut, first: dict[str, LazyImage], asked: set[str]
    ) -> Iterator[Example]:
        picture = self._picture(entry, place)
        question, answer = entry.text("question"), " ".join(entry.text("answer").split())
        # Row groups and file names of the hub are counted from 0 in each set.
        identifier = f"{place.official}:{entry.place.partition(':')[2] or entry.place}"
        unit = held_out.admit(picture.content, split=place.split, name=picture.image.name)
        image = first.setdefault(picture.content, picture.image)
        content = f"{picture.content} {plain(question)} {plain(answer)}"
        if content in asked:
            raise RecordError("the same question and answer stand beside the same picture before")
        asked.add(content)
        closed = answer.lower() in YES_NO
        topic: Question = "closed" if closed else "open"
        if topic not in self.questions:
            return
        yield Example(
            id=identifier,
            patient=unit,
            turns=about_image(question, answer.lower() if closed else answer),
            images=(image,),
            options=YES_NO if closed else (),
            topic=topic,
            split=place.split,
            source=self.name,
            attributes={"official_split": place.official},
        )

    def _picture(self, entry: Entry, place: _Set) -> _Picture:
        if "_path" in entry.values:
            encoded = picture_bytes(entry.values["image"])
            if not encoded:
                raise RecordError("'image' is empty")
            row = ParquetImage(Path(entry.text("_path")), "image", entry.whole("_group"), entry.whole("_row"))
            return _Picture(row, xxhash.xxh3_128_hexdigest(encoded))
        image: ImageFile = image_in(self.root / "images" / place.official, f"{entry.text('image')}.jpg")
        # A file stands beside some five questions; its name is as good as its bytes and costs no reading.
        return _Picture(image, image.name)
