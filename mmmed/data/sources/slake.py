"""SLAKE: bilingual questions about radiology images, with knowledge of diseases (Liu et al., ISBI 2021)."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.data.entries import Entry, read_json_lines, read_json_records
from mmmed.data.official import HeldOut
from mmmed.data.question import YES_NO, about_image, about_text
from mmmed.data.tabular import image_in, no_layout, present, quarantine
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined, Split

Question = Literal["closed", "open"]
Language = Literal["en", "zh"]

CHINESE_PAIRS = (
    ("是的", "不是"),
    ("是", "否"),
    ("包含", "不包含"),
    ("有", "没有"),
    ("可以", "不可以"),
    ("包括", "不包括"),
    ("存在", "不存在"),
    ("正常", "不正常"),
    ("健康", "不健康"),
)
"""Yes and no as Chinese answers say them, which repeat the verb of the question."""

_COLUMNS = (
    "img_name",
    "question",
    "answer",
    "q_lang",
    "location",
    "modality",
    "answer_type",
    "base_type",
    "content_type",
    "qid",
)


class _File(NamedTuple):
    """One set: its file without the ending, and the split it is here."""

    official: str
    split: Split


_FILES = (_File("test", "test"), _File("validate", "validation"), _File("train", "train"))


class Slake:
    """Reads the release (train.json, validate.json, test.json, imgs/), or its questions as JSON lines.

    The official splits of one language share no image, but those of the two languages were drawn apart from each
    other: 72 training images of the Chinese questions are test images of the English ones. Where both languages are
    read, what is asked about an image in a test set is left out of what is learned from.

    Args:
        root: Folder with the files.
        languages: Questions in which languages are read; the others are left out without a count.
        questions: "closed" are those answered by yes or no (in Chinese by one of `CHINESE_PAIRS`), "open" all others.
        images: "absent" asks the questions without their images, for copies that have none, and for the baseline of
            the words alone; a result on them says nothing about seeing.
    """

    name = "slake"

    def __init__(
        self,
        root: str,
        *,
        languages: Sequence[Language] = ("en",),
        questions: Sequence[Question] = ("closed", "open"),
        images: Literal["required", "absent"] = "required",
    ) -> None:
        self.root = Path(root)
        self.languages = tuple(languages)
        self.questions = tuple(questions)
        self.images = images

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions of test, validation and training set, in the order of the files.

        Raises:
            DataError: There is no such file, one lacks a field, or the images are required and not there.
        """
        held_out = HeldOut("image")
        for file, entries in self._files():
            yield from quarantine(self.name, entries, partial(self._examples, file=file, held_out=held_out))

    def _files(self) -> Iterator[tuple[_File, Sequence[Entry] | Iterator[Entry]]]:
        released = [self.root / f"{file.official}.json" for file in _FILES]
        copied = [path.with_suffix(".jsonl") for path in released]
        paths = next((paths for paths in (released, copied) if any(path.is_file() for path in paths)), [])
        if not paths or (self.images == "required" and not (self.root / "imgs").is_dir()):
            expected = "train.json, validate.json, test.json and imgs/ (or, with images: absent, no imgs/)"
            raise no_layout(self.name, root=self.root, expected=expected)
        for file, path in zip(_FILES, paths, strict=True):
            if path.is_file():
                read = read_json_records if path.suffix == ".json" else read_json_lines
                yield file, read(path, columns=_COLUMNS)

    def _examples(self, entry: Entry, *, file: _File, held_out: HeldOut) -> Iterator[Example]:
        language = entry.text("q_lang")
        if language not in ("en", "zh"):
            raise RecordError(f"'q_lang' is {language!r}; expected en or zh")
        if language not in self.languages:
            return
        identifier, name = entry.text("qid"), entry.text("img_name")
        image = image_in(self.root / "imgs", name) if self.images == "required" else None
        question, answer = entry.text("question"), entry.text("answer")
        options = yes_no_options(answer) if entry.text("answer_type") == "CLOSED" else ()
        topic: Question = "closed" if options else "open"
        held_out.admit(name, split=file.split, name=identifier)
        if topic not in self.questions:
            return
        answer = answer.lower() if options == YES_NO else answer
        yield Example(
            id=identifier,
            patient=name.partition("/")[0],
            turns=about_image(question, answer) if image else about_text(question, answer),
            images=(image,) if image else (),
            options=options,
            topic=topic,
            split=file.split,
            source=self.name,
            attributes=present(
                {
                    "language": language,
                    "modality": entry.maybe("modality"),
                    "organ": entry.maybe("location"),
                    "question_type": entry.maybe("content_type"),
                    "knowledge": entry.maybe("base_type"),
                    "answer_type": entry.maybe("answer_type"),
                    "official_split": file.official,
                }
            ),
        )


def yes_no_options(answer: str) -> tuple[str, ...]:
    """The pair of yes and no that an answer is one of, or nothing for any other answer."""
    if answer.lower() in YES_NO:
        return YES_NO
    return next((pair for pair in CHINESE_PAIRS if answer in pair), ())
