"""VQA-Med: questions about radiology images of MedPix (Ben Abacha et al., ImageCLEF 2019 and 2021)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.data.entries import Entry, plain
from mmmed.data.official import HeldOut
from mmmed.data.question import YES_NO, about_image
from mmmed.data.tabular import index_images, indexed_image, no_layout, present, quarantine
from mmmed.errors import ConfigError, DataError
from mmmed.records import Example, Quarantined, Split

Question = Literal["closed", "open"]


class _Layout(NamedTuple):
    """Where one set of one year lies.

    Args:
        official: Its name.
        split: What it is here.
        folders: Where it may have been unpacked to; the first that is there counts.
        pairs: Lines of image, question and answer, with the category after the image where `category`.
        answers: Lines of image and answers, where these do not stand in `pairs`.
        images: Names of the folder of the images, at any depth.
    """

    official: str
    split: Split
    folders: tuple[str, ...]
    pairs: str
    answers: str
    images: tuple[str, ...]
    category: bool = False


_YEARS: dict[int, tuple[_Layout, ...]] = {
    2019: (
        _Layout(
            "test",
            "test",
            ("VQAMed2019Test", "."),
            "VQAMed2019_Test_Questions_w_Ref_Answers.txt",
            "",
            ("VQAMed2019_Test_Images", "Test_Images"),
            category=True,
        ),
        _Layout(
            "validation",
            "validation",
            ("ImageClef-2019-VQA-Med-Validation",),
            "All_QA_Pairs_val.txt",
            "",
            ("Val_images",),
        ),
        _Layout(
            "train",
            "train",
            ("ImageClef-2019-VQA-Med-Training",),
            "All_QA_Pairs_train.txt",
            "",
            ("Train_images",),
        ),
    ),
    2021: (
        _Layout(
            "test",
            "test",
            ("Task1-VQA-2021-TestSet-w-GroundTruth",),
            "Task1-VQA-2021-TestSet-Questions.txt",
            "Task1-VQA-2021-TestSet-ReferenceAnswers.txt",
            ("VQA-500-Images",),
        ),
        _Layout(
            "validation",
            "validation",
            ("VQA-Med-2021-Tasks-1-2-NewValidationSets",),
            "VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt",
            "",
            ("ImageCLEF-2021-VQA-Med-New-Validation-Images",),
        ),
        _Layout(
            "train",
            "train",
            ("VQAMed2020-VQAnswering-TrainingSet",),
            "VQAnswering_2020_Train_QA_pairs.txt",
            "",
            ("VQAnswering_2020_Train_images",),
        ),
    ),
}
_CATEGORIES = {"C1_Modality": "modality", "C2_Plane": "plane", "C3_Organ": "organ", "C4_Abnormality": "abnormality"}


class VqaMed:
    """Reads the unpacked archives of the editions of 2019 and 2021 (whose training set is that of 2020).

    "closed" are the yes/no questions. Where several answers count as right, the first is the reference and the others
    are the attribute `also`, separated by a vertical bar. The official splits are kept; an image that stands in two is
    left out of the one that is learned from.

    Args:
        root: Folder with the unpacked archives, each under its own name.
        year: 2019 or 2021.
        questions: Which kinds of question are read; the others are left out without a count.
    """

    name = "vqa_med"

    def __init__(self, root: str, *, year: int = 2019, questions: Sequence[Question] = ("closed", "open")) -> None:
        if year not in _YEARS:
            raise ConfigError(f"vqa_med: there is no edition of {year} here; known: {', '.join(map(str, _YEARS))}")
        self.root = Path(root)
        self.year = year
        self.questions = tuple(questions)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions of test, validation and training set, in the order of the files.

        Raises:
            DataError: There is no such file, the images of one are missing, or one is not UTF-8 text.
        """
        held_out = HeldOut("image")
        found = [(layout, folder) for layout in _YEARS[self.year] if (folder := self._folder(layout)) is not None]
        if not found:
            expected = " or ".join(f"{layout.folders[0]}/{layout.pairs}" for layout in _YEARS[self.year])
            raise no_layout(self.name, root=self.root, expected=expected)
        for layout, folder in found:
            entries = _entries(folder, layout)
            images = index_images(_image_folders(folder, layout))
            read = partial(self._examples, layout=layout, images=images, held_out=held_out)
            yield from quarantine(self.name, entries, read)

    def _folder(self, layout: _Layout) -> Path | None:
        places = (self.root / folder for folder in layout.folders)
        return next((place for place in places if (place / layout.pairs).is_file()), None)

    def _examples(
        self, entry: Entry, *, layout: _Layout, images: Mapping[str, Path], held_out: HeldOut
    ) -> Iterator[Example]:
        name = entry.text("image")
        image = indexed_image(images, f"{name}.jpg")
        question, (answer, *others) = entry.text("question"), entry.texts("answers")
        held_out.admit(name, split=layout.split, name=name)
        closed = answer.lower() in YES_NO
        topic: Question = "closed" if closed else "open"
        if topic not in self.questions:
            return
        yield Example(
            id=f"{self.year}:{layout.official}:{entry.whole('line')}",
            patient=name,
            turns=about_image(question, answer.lower() if closed else answer),
            images=(image,),
            options=YES_NO if closed else (),
            topic=topic,
            split=layout.split,
            source=self.name,
            attributes=present(
                {
                    "category": entry.maybe("category"),
                    "also": "|".join(others),
                    "official_split": layout.official,
                }
            ),
        )


def _entries(folder: Path, layout: _Layout) -> Iterator[Entry]:
    categories = _categories(folder)
    answers = dict(_fields(line, 2) for _, line in _lines(folder / layout.answers)) if layout.answers else {}
    parts = 2 if layout.answers else 3 + layout.category
    for number, line in _lines(folder / layout.pairs):
        place = f"{layout.pairs}:{number}"
        fields = _fields(line, parts)
        if len(fields) < parts:
            yield Entry(place, fault=f"{len(fields)} fields where {parts} are expected, separated by '|'")
            continue
        image, question = fields[0], fields[1 + layout.category]
        # Questions and answers come in two files; they are joined by image, since nothing says that lines match.
        given = answers.get(image, "") if layout.answers else fields[-1]
        category = fields[1] if layout.category else categories.get((image, plain(question)), "")
        values = {"image": image, "question": question, "category": category, "line": number}
        yield Entry(place, values | {"answers": _answers(given, separator="|" if layout.answers else "#")})


def _answers(text: str, *, separator: str) -> list[object]:
    return [answer.strip().strip('"').strip() for answer in text.split(separator)]


def _categories(folder: Path) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for path in sorted((folder / "QAPairsByCategory").glob("*.txt")):
        category = _CATEGORIES.get(path.stem.rpartition("_")[0], "")
        for _, line in _lines(path):
            image, question, *_ = [*_fields(line, 3), ""]
            found[image, plain(question)] = category
    return found


def _fields(line: str, parts: int) -> list[str]:
    return [field.strip() for field in line.split("|", parts - 1)]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 ({error}); fetch it again") from error
    # Not splitlines: some answers hold characters that it takes for the end of a line.
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _image_folders(folder: Path, layout: _Layout) -> list[Path]:
    folders = [path for name in layout.images for path in sorted(folder.rglob(name)) if path.is_dir()]
    if not folders:
        raise DataError(f"vqa_med: no folder {' or '.join(layout.images)} under {folder}; unpack the images there")
    return folders
