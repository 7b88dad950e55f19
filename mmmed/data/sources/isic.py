"""ISIC challenges of 2018, 2019 and 2020: pictures of skin lesions with their diagnosis."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
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
    read_header,
)
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined, Split

Question = Literal["diagnosis", "malignant"]
Edition = Literal[2018, 2019, 2020]

QUESTIONS: Mapping[Question, str] = {
    "diagnosis": "What is the diagnosis of this lesion?",
    "malignant": "Is this lesion malignant?",
}

DIAGNOSES: Mapping[Edition, Mapping[str, str]] = {
    2018: {
        "MEL": "melanoma",
        "NV": "melanocytic nevus",
        "BCC": "basal cell carcinoma",
        "AKIEC": "actinic keratosis / Bowen's disease",
        "BKL": "benign keratosis-like lesion",
        "DF": "dermatofibroma",
        "VASC": "vascular lesion",
    },
    2019: {
        "MEL": "melanoma",
        "NV": "melanocytic nevus",
        "BCC": "basal cell carcinoma",
        "AK": "actinic keratosis",
        "BKL": "benign keratosis-like lesion",
        "DF": "dermatofibroma",
        "VASC": "vascular lesion",
        "SCC": "squamous cell carcinoma",
        "UNK": "none of the others",
    },
    2020: {
        name: name
        for name in (
            "nevus",
            "melanoma",
            "seborrheic keratosis",
            "lentigo NOS",
            "lichenoid keratosis",
            "solar lentigo",
            "cafe-au-lait macule",
            "atypical melanocytic proliferation",
        )
    },
}
"""Diagnoses of each challenge, by the name of their column or, in 2020, as the table writes them."""

MALIGNANT = frozenset({"MEL", "BCC", "AKIEC", "AK", "SCC"})
"""Malignant, or on the way to it, as in `ham10000.MALIGNANT`; the edition of 2020 says it itself."""

_NOT_A_CLASS = "UNK"
_UNKNOWN = "unknown"
_PARTS: Mapping[str, Split] = {"Training": "train", "Validation": "validation", "Test": "test"}
_SEXES = {"male": "M", "female": "F", "unknown": "", "": ""}


class _Lesion(NamedTuple):
    """What a row says, whatever its layout."""

    image: str
    group: str
    code: str
    malignant: bool


class _Joined(NamedTuple):
    """What other tables say of an image: its lesion, and images that are to be left out."""

    facts: Mapping[str, Mapping[str, str]]
    repeated: Mapping[str, str]


class Isic:
    """Reads one challenge as published, in CSV and JPEG.

    - 2018 (task 3, HAM10000): ISIC2018_Task3_Training_GroundTruth.csv, in the root or in a folder of that name, and
      ISIC2018_Task3_Training_Input/; where they are there, Validation and Test too, and
      ISIC2018_Task3_Training_LesionGroupings.csv.
    - 2019: ISIC_2019_Training_GroundTruth.csv, ISIC_2019_Training_Metadata.csv, ISIC_2019_Training_Input/; also Test.
    - 2020: ISIC_2020_Training_GroundTruth_v2.csv (or …GroundTruth.csv, or train.csv) and train/; images that
      ISIC_2020_Training_Duplicates.csv names second are set aside.

    Splits go by patient (2020), else by lesion, else by image where neither is named.

    Args:
        root: Folder with these files.
        edition: Year of the challenge.
        seed: Changes which patients or lesions fall into which split.
        fractions: Share of the patients or lesions in each split.
        splits: `hash` draws them; `official` takes the parts of the challenge. Nothing proves that these do not share
            a lesion, since only the training parts name lesions.
        questions: What is asked about each image.
    """

    name = "isic"

    def __init__(
        self,
        root: str,
        *,
        edition: Edition,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        splits: Literal["hash", "official"] = "hash",
        questions: Sequence[Question] = ("diagnosis", "malignant"),
    ) -> None:
        self.root = Path(root)
        self.edition: Edition = edition
        self.seed = seed
        self.fractions = fractions
        self.splits = splits
        self.questions = tuple(questions)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions image by image, in the order of the tables.

        Raises:
            DataError: The tables are missing or lack a column.
        """
        tables = self._tables()
        if not tables:
            raise no_layout(self.name, root=self.root, expected=_EXPECTED[self.edition])
        images = index_images(self._folders())
        joined = _Joined(self._facts(tables), self._repeated())
        rows = chain.from_iterable(self._rows(part, file) for part, file in tables.items())
        yield from quarantine(self.name, rows, lambda row: self._examples(row, images, joined))

    def _tables(self) -> dict[str, Path]:
        """The ground truth of each part that is there."""
        found: dict[str, Path] = {}
        for part in _PARTS:
            for name in _TABLES[self.edition]:
                stem = name.format(part=part)
                path = next(
                    (one for one in (self.root / stem, self.root / Path(stem).stem / stem) if one.is_file()), None
                )
                if path is not None:
                    found.setdefault(part, path)
        return found

    def _folders(self) -> list[Path]:
        folders = [
            folder
            for part in _PARTS
            for name in _FOLDERS[self.edition]
            for folder in self.root.glob(name.format(part=part))
        ]
        # The archive of 2019 unpacks into a folder of its own name.
        return sorted({*folders, *(inner for folder in folders if (inner := folder / folder.name).is_dir())})

    def _rows(self, part: str, file: Path) -> Iterator[Row]:
        columns = (_IMAGE[self.edition], *(DIAGNOSES[self.edition] if self.edition != 2020 else _COLUMNS_2020))
        for row in read_csv(file, columns=columns):
            yield replace(row, cells={**row.cells, _PART: part})

    def _facts(self, tables: Mapping[str, Path]) -> Mapping[str, Mapping[str, str]]:
        """Sex, age, site and lesion of each image, where another table than the ground truth holds them."""
        names = {2018: "ISIC2018_Task3_{part}_LesionGroupings.csv", 2019: "ISIC_2019_{part}_Metadata.csv"}
        if self.edition not in names:
            return {}
        files = [self.root / names[self.edition].format(part=part) for part in tables]
        rows = chain.from_iterable(read_csv(file, columns=("image",)) for file in files if file.is_file())
        return {row.maybe("image"): row.cells for row in rows}

    def _repeated(self) -> Mapping[str, str]:
        """Images that show what another one shows, by name, with that other one."""
        file = self.root / "ISIC_2020_Training_Duplicates.csv"
        if self.edition != 2020 or not file.is_file():
            return {}
        pairs = _PAIRS if _PAIRS[0] in read_header(file) else _PAIRS_OF_OTHER_COPIES
        return {row.maybe(pairs[1]): row.maybe(pairs[0]) for row in read_csv(file, columns=pairs)}

    def _examples(self, row: Row, images: Mapping[str, Path], joined: _Joined) -> Iterator[Example]:
        lesion = self._lesion(row, joined)
        facts = joined.facts.get(lesion.image, row.cells)
        sex, age = facts.get("sex", ""), facts.get("age_approx", "")
        if sex not in _SEXES:
            raise RecordError(f"'sex' is {sex!r}; expected male, female or nothing")
        image = indexed_image(images, f"{lesion.image}.jpg")
        diagnosis = DIAGNOSES[self.edition].get(lesion.code, "")
        attributes = present(
            {
                "sex": _SEXES[sex],
                "age": age_in_years(age) if age else None,
                "site": facts.get("anatom_site_general") or facts.get("anatom_site_general_challenge"),
                "confirmed_by": facts.get("diagnosis_confirm_type"),
                "diagnosis": diagnosis,
                "edition": str(self.edition),
                "official_split": row.text(_PART).lower(),
            }
        )
        options = tuple(DIAGNOSES[self.edition].values())
        answers: dict[Question, tuple[str, tuple[str, ...]]] = {
            "diagnosis": (diagnosis, options),
            "malignant": ("" if lesion.code == _NOT_A_CLASS else yes_no(lesion.malignant), YES_NO),
        }
        for topic in self.questions:
            answer, choices = answers[topic]
            if not answer:
                continue
            yield Example(
                id=f"{lesion.image}:{topic}",
                patient=lesion.group,
                turns=about_image(QUESTIONS[topic], answer),
                images=(image,),
                options=choices,
                topic=topic,
                split=self._split(row.text(_PART), lesion.group),
                source=self.name,
                attributes=attributes,
            )

    def _lesion(self, row: Row, joined: _Joined) -> _Lesion:
        image = row.text(_IMAGE[self.edition])
        if image in joined.repeated:
            raise RecordError(f"image {image!r} shows the same as {joined.repeated[image]!r}")
        if self.edition == 2020:
            code = row.one_of("diagnosis", (*DIAGNOSES[2020], _UNKNOWN))
            malignant = row.one_of("benign_malignant", ("benign", "malignant")) == "malignant"
            return _Lesion(image, row.text("patient_id"), code, malignant)
        codes = [code for code in DIAGNOSES[self.edition] if row.text(code) in ("1", "1.0")]
        if len(codes) != 1:
            raise RecordError(f"{len(codes)} diagnoses are marked; expected one")
        group = joined.facts.get(image, {}).get("lesion_id") or image.removesuffix("_downsampled")
        return _Lesion(image, group, codes[0], codes[0] in MALIGNANT)

    def _split(self, part: str, group: str) -> Split:
        if self.splits == "official":
            return _PARTS[part]
        return assign(group, seed=self.seed, fractions=self.fractions)


_TABLES: Mapping[Edition, tuple[str, ...]] = {
    2018: ("ISIC2018_Task3_{part}_GroundTruth.csv",),
    2019: ("ISIC_2019_{part}_GroundTruth.csv",),
    2020: ("ISIC_2020_{part}_GroundTruth_v2.csv", "ISIC_2020_{part}_GroundTruth.csv", "train.csv"),
}
_FOLDERS: Mapping[Edition, tuple[str, ...]] = {
    2018: ("ISIC2018_Task3_{part}_Input",),
    2019: ("ISIC_2019_{part}_Input",),
    2020: ("train", "jpeg/train", "ISIC_2020_{part}_JPEG/train", "ISIC_2020_{part}_Input"),
}
_IMAGE: Mapping[Edition, str] = {2018: "image", 2019: "image", 2020: "image_name"}
_COLUMNS_2020 = ("patient_id", "sex", "age_approx", "anatom_site_general_challenge", "diagnosis", "benign_malignant")
_EXPECTED: Mapping[Edition, str] = {
    2018: "ISIC2018_Task3_Training_GroundTruth.csv and ISIC2018_Task3_Training_Input/",
    2019: "ISIC_2019_Training_GroundTruth.csv and ISIC_2019_Training_Input/",
    2020: "ISIC_2020_Training_GroundTruth_v2.csv and train/",
}
_PAIRS = ("image_name_1", "image_name_2")
_PAIRS_OF_OTHER_COPIES = ("ISIC_id", "ISIC_id_paired")
_PART = "part of the challenge"
