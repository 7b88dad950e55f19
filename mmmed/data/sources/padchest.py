"""PadChest: chest films of the hospital of San Juan, Alicante, with Spanish reports (Bustos et al., MedIA 2020)."""

import ast
from collections.abc import Iterator
from pathlib import Path

from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.study import DEFAULT_QUESTIONS, Film, Study, StudyQuestions, ask_about, normal_view, read_studies
from mmmed.data.tabular import OLDEST, Row, image_in, no_layout, present, read_csv, table
from mmmed.errors import RecordError
from mmmed.processing.findings.labeller import NO_FINDING
from mmmed.processing.image import ImageFile
from mmmed.records import Example, Quarantined

_TABLES = (
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
    "PADCHEST_chest_x_ray_images_labels_160K.csv",
)
_COLUMNS = (
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Pediatric",
    "Report",
    "MethodLabel",
    "Labels",
)
_NO_CHEST_FILM = "EXCLUDE"
_NORMAL = "normal"
# Remarks on the film or on an earlier one, and no findings.
_REMARKS = frozenset({"", "exclude", "suboptimal study", "unchanged"})


class PadChest:
    """Reads the release of BIMCV: the table, packed or not, and the folders 0/ to 54/ with 16-bit PNG.

    Images are also found when they lie together in images/ or in the root. The reports are Spanish, in lower case,
    without stop words and accents, as published. Labels are English: of physicians for about a quarter of the
    studies, of a network for the rest (attribute `labelled_by`). What is not labelled counts as absent.

    Args:
        root: Folder with the table.
        seed: Changes which patients fall into which split.
        fractions: Share of the patients in each split.
        physicians: Keep only findings that physicians labelled; the other studies are asked for their report alone.
        ask: What is asked about each study.
    """

    name = "padchest"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        physicians: bool = False,
        ask: StudyQuestions = DEFAULT_QUESTIONS,
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.physicians = physicians
        self.ask = ask

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions study by study, in the order of the table.

        Raises:
            DataError: The table is missing or lacks a column.
        """
        file = next((found for name in _TABLES if (found := table(self.root, name)) is not None), None)
        if file is None:
            raise no_layout(self.name, root=self.root, expected=f"{_TABLES[0]} (or .csv.gz) and 0/ to 54/")
        vocabulary = sorted({label for row in read_csv(file, columns=_COLUMNS) for label in _lenient(row)})
        known = (NO_FINDING, *vocabulary)
        studies = read_studies(self.name, read_csv(file, columns=_COLUMNS), lambda row: self._study(row, known=known))
        yield from ask_about(studies, source=self.name, ask=self.ask)

    def _study(self, row: Row, *, known: tuple[str, ...]) -> Study:
        name, study, patient = row.text("ImageID"), row.text("StudyID"), row.text("PatientID")
        if row.maybe("Projection") == _NO_CHEST_FILM:
            raise RecordError(
                f"projection of {name!r} is {_NO_CHEST_FILM!r}: its publishers hold it to be no chest film"
            )
        labels = _labels(row)
        labelled = labels is not None and (not self.physicians or row.maybe("MethodLabel") == "Physician")
        findings = _findings(labels or ()) if labelled else ()
        sex = row.maybe("PatientSex_DICOM")
        return Study(
            id=study,
            patient=patient,
            films=(Film(name=name, image=self._image(row, name), view=normal_view(row.maybe("Projection"))),)
            if self.ask.images != "none"
            else (),
            split=assign(patient, seed=self.seed, fractions=self.fractions),
            sections={"report": " ".join(row.maybe("Report").split())},
            present=findings,
            known=known if labelled else (),
            attributes=present(
                {
                    "sex": sex if sex in ("M", "F") else "",
                    "age": _age(row),
                    "findings": ";".join(findings),
                    "labelled_by": row.maybe("MethodLabel"),
                    "pediatric": row.maybe("Pediatric"),
                }
            ),
            language="Spanish",
        )

    def _image(self, row: Row, name: str) -> ImageFile:
        places = [f"{_whole(row.maybe('ImageDir'))}/{name}", f"images/{name}", name]
        return image_in(self.root, next((place for place in places if (self.root / place).is_file()), places[0]))


def _labels(row: Row) -> tuple[str, ...] | None:
    """The labels of a film as written, ``"['normal', ' unchanged']"``; None where nobody labelled it."""
    text = row.maybe("Labels")
    if not text:
        return None
    try:
        labels = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RecordError(f"'Labels' is {text[:60]!r}; expected a list such as ['normal']") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise RecordError(f"'Labels' is {text[:60]!r}; expected a list such as ['normal']")
    return tuple(dict.fromkeys(label.strip().lower() for label in labels))


def _lenient(row: Row) -> tuple[str, ...]:
    # Rows that cannot be read are set aside later, with their reason.
    try:
        return tuple(label for label in _labels(row) or () if label not in _REMARKS and label != _NORMAL)
    except RecordError:
        return ()


def _findings(labels: tuple[str, ...]) -> tuple[str, ...]:
    """What a film shows: "normal" stands beside a finding in some rows, and then the finding counts."""
    found = tuple(label for label in labels if label not in _REMARKS and label != _NORMAL)
    return found or ((NO_FINDING,) if _NORMAL in labels else ())


def _age(row: Row) -> float | None:
    """Whole years between birth and study, of which the release gives years; None where one is not known."""
    birth, date = _whole(row.maybe("PatientBirth")), row.maybe("StudyDate_DICOM")
    if not (birth.isdecimal() and date[:4].isdecimal()):
        return None
    years = int(date[:4]) - int(birth)
    return float(years) if 0 <= years <= OLDEST else None


def _whole(number: str) -> str:
    # pandas writes 1930.0 where some cells of a column are empty.
    return number.removesuffix(".0")
