"""HAM10000: dermoscopy of pigmented skin lesions with the diagnosis (Tschandl et al., Scientific Data 2018)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import (
    Row,
    age_in_years,
    index_images,
    indexed_image,
    no_layout,
    present,
    quarantine,
    read_csv,
)
from mmmed.records import Example, Quarantined

Question = Literal["diagnosis", "malignant"]

DIAGNOSES = {
    "akiec": "actinic keratosis / Bowen's disease",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis-like lesion",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}
MALIGNANT = frozenset({"akiec", "bcc", "mel"})
"""Malignant, or on the way to it: akiec holds precancerous keratoses and carcinomas in situ."""

QUESTIONS: dict[Question, str] = {
    "diagnosis": "What is the diagnosis of this lesion?",
    "malignant": "Is this lesion malignant?",
}

_SEXES = {"male": "M", "female": "F", "M": "M", "F": "F", "unknown": "", "": ""}
_IMAGE_FOLDERS = ("images", "HAM10000_images", "HAM10000_images_part_*", "HAM10000_images_part[12]")


class _Place(NamedTuple):
    """A data set as found: its metadata, the column that names the image, and where the images lie."""

    file: Path
    image: str
    folders: list[Path]


class Ham10000:
    """Reads the release of the Harvard Dataverse, or a sample of it with metadata.csv.

    The file names lesions and not patients: splits never share a lesion, but may share a person.

    Args:
        root: Folder with HAM10000_metadata (or .csv) or metadata.csv.
        seed: Changes which lesions fall into which split.
        fractions: Share of the lesions in each split.
        questions: What is asked about each image.
    """

    name = "ham10000"

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
        """Yield the questions image by image, in the order of the file.

        Raises:
            DataError: The metadata are missing or lack a column.
        """
        file, image_column, folders = self._place()
        columns = (image_column, "lesion_id", "dx", "dx_type", "age", "sex", "localization")
        images = index_images(folders)
        rows = read_csv(file, columns=columns)
        yield from quarantine(self.name, rows, lambda row: self._examples(row, image_column, images))

    def _place(self) -> _Place:
        folders = sorted({folder for name in _IMAGE_FOLDERS for folder in self.root.glob(name) if folder.is_dir()})
        for file, image_column in (
            ("HAM10000_metadata", "image_id"),
            ("HAM10000_metadata.csv", "image_id"),
            ("metadata.csv", "image"),
        ):
            if folders and (self.root / file).is_file():
                return _Place(self.root / file, image_column, folders)
        raise no_layout(
            self.name,
            root=self.root,
            expected="HAM10000_metadata(.csv) and HAM10000_images_part_1/ and _2/, or metadata.csv and images/",
        )

    def _examples(self, row: Row, image_column: str, images: Mapping[str, Path]) -> Iterator[Example]:
        lesion = row.text("lesion_id")
        image = indexed_image(images, f"{Path(row.text(image_column)).stem}.jpg")
        diagnosis = row.one_of("dx", DIAGNOSES)
        sex = _SEXES[row.one_of("sex", _SEXES)] if row.maybe("sex") else ""
        site = row.maybe("localization")
        attributes = present(
            {
                "sex": sex,
                "age": age_in_years(row.maybe("age")) if row.maybe("age") else None,
                "site": "" if site == "unknown" else site,
                "confirmed_by": row.maybe("dx_type"),
                "diagnosis": DIAGNOSES[diagnosis],
            }
        )
        answers: dict[Question, tuple[str, tuple[str, ...]]] = {
            "diagnosis": (DIAGNOSES[diagnosis], tuple(DIAGNOSES.values())),
            "malignant": (yes_no(diagnosis in MALIGNANT), YES_NO),
        }
        split = assign(lesion, seed=self.seed, fractions=self.fractions)
        for topic in self.questions:
            answer, options = answers[topic]
            yield Example(
                id=f"{image.path.stem}:{topic}",
                patient=lesion,
                turns=about_image(QUESTIONS[topic], answer),
                images=(image,),
                options=options,
                topic=topic,
                split=split,
                source=self.name,
                attributes=attributes,
            )
