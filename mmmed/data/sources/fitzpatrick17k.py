"""Fitzpatrick17k: clinical pictures of skin conditions with the skin type (Groh et al., CVPR workshops 2021)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import Row, index_images, indexed_image, no_layout, present, quarantine, read_csv
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined

Question = Literal["diagnosis", "category", "malignant"]

CATEGORIES = ("benign", "malignant", "non-neoplastic")
QUESTIONS: Mapping[Question, str] = {
    "diagnosis": "Which skin condition is this?",
    "category": "Is this skin condition benign, malignant or non-neoplastic?",
    "malignant": "Is this skin condition malignant?",
}

_SKIN_TYPES = ("1", "2", "3", "4", "5", "6")
_NO_SKIN_TYPE = "-1"
_WRONG = "wrongly"
_IMAGE_FOLDERS = ("images", "data/finalfitz17k", "finalfitz17k")


class Fitzpatrick17k:
    """Reads fitzpatrick17k.csv of the authors' repository, and the images as <md5hash>.jpg in images/.

    The table names neither patients nor lesions: each image counts as a patient of its own, though the atlases it
    was taken from hold several pictures of one patient and near copies. Scan it for duplicates before trusting a split.

    Args:
        root: Folder with the table.
        seed: Changes which images fall into which split.
        fractions: Share of the images in each split.
        questions: What is asked about each image: the condition in free words, its category of three, or whether it
            is malignant.
    """

    name = "fitzpatrick17k"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        questions: Sequence[Question] = ("diagnosis", "malignant"),
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.questions = tuple(questions)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions image by image, in the order of the table.

        Raises:
            DataError: The table is missing or lacks a column.
        """
        file = self.root / "fitzpatrick17k.csv"
        folders = [self.root / name for name in _IMAGE_FOLDERS if (self.root / name).is_dir()]
        if not (file.is_file() and folders):
            raise no_layout(self.name, root=self.root, expected="fitzpatrick17k.csv and images/")
        images = index_images(folders)
        columns = (
            "md5hash",
            "fitzpatrick_scale",
            "fitzpatrick_centaur",
            "label",
            "nine_partition_label",
            "three_partition_label",
            "qc",
        )
        yield from quarantine(self.name, read_csv(file, columns=columns), lambda row: self._examples(row, images))

    def _examples(self, row: Row, images: Mapping[str, Path]) -> Iterator[Example]:
        name = row.text("md5hash")
        if _WRONG in row.maybe("qc").lower():
            raise RecordError(f"a dermatologist found it {row.maybe('qc')!r}")
        image = indexed_image(images, f"{name}.jpg")
        category = row.one_of("three_partition_label", CATEGORIES)
        condition = row.line("label")
        attributes = present(
            {
                "skin_type": _skin_type(row, "fitzpatrick_scale"),
                "skin_type_by_experts_and_crowd": _skin_type(row, "fitzpatrick_centaur"),
                "diagnosis": condition,
                "category": category,
                "group": row.maybe("nine_partition_label"),
            }
        )
        answers: dict[Question, tuple[str, tuple[str, ...]]] = {
            "diagnosis": (condition, ()),
            "category": (category, CATEGORIES),
            "malignant": (yes_no(category == "malignant"), YES_NO),
        }
        for topic in self.questions:
            answer, options = answers[topic]
            yield Example(
                id=f"{name}:{topic}",
                patient=name,
                turns=about_image(QUESTIONS[topic], answer),
                images=(image,),
                options=options,
                topic=topic,
                split=assign(name, seed=self.seed, fractions=self.fractions),
                source=self.name,
                attributes=attributes,
            )


def _skin_type(row: Row, column: str) -> str:
    value = row.maybe(column).removesuffix(".0")
    return "" if value in ("", _NO_SKIN_TYPE) else _one_of_six(value, column)


def _one_of_six(value: str, column: str) -> str:
    if value not in _SKIN_TYPES:
        raise RecordError(f"{column!r} is {value!r}; expected a skin type from 1 to 6, or -1")
    return value
