"""CheXpert Plus: CheXpert with its reports and demographics (Chambon et al. 2024, arXiv 2405.19538)."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

from mmmed.data.entries import in_cells, read_json_lines
from mmmed.data.observations import DEFAULT_LABELS, ObservationLabels, Truths
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.study import (
    DEFAULT_QUESTIONS,
    LATERAL,
    Film,
    Study,
    StudyQuestions,
    ask_about,
    normal_view,
    read_studies,
)
from mmmed.data.tabular import Row, age_in_years, image_in, no_layout, present, read_csv
from mmmed.errors import RecordError
from mmmed.processing.findings.labeller import OBSERVATIONS
from mmmed.processing.image import ImageFile
from mmmed.records import Example, Quarantined, Split

_TABLE = "df_chexpert_plus_240401.csv"
_OFFICIAL: dict[str, Split] = {"train": "train", "valid": "validation", "test": "test"}
_SEXES = {"Male": "M", "Female": "F"}
_COLUMNS = (
    "path_to_image",
    "frontal_lateral",
    "ap_pa",
    "deid_patient_id",
    "section_findings",
    "section_impression",
    "age",
    "sex",
    "race",
    "ethnicity",
    "insurance_type",
    "split",
)
# The images come as PNG (PNG.zip); films of CheXpert-v1.0 and -small are the same ones and may stand in.
_IMAGES = ("PNG/{stem}.png", "{stem}.png", "{stem}.jpg", "CheXpert-v1.0/{stem}.jpg", "CheXpert-v1.0-small/{stem}.jpg")
_UNKNOWN = frozenset({"", "Unknown", "Not Recorded"})


class CheXpertPlus:
    """Reads the release of Stanford AIMI: df_chexpert_plus_240401.csv and PNG/.

    The findings are those that CheXbert read from one part of the reports, in chexbert_labels/ or beside the table.

    Args:
        root: Folder with the table.
        seed: Changes which patients fall into which split, where these are drawn.
        fractions: Share of the patients in each split, where these are drawn.
        splits: `official` takes train and valid as published (there is no test part); `hash` draws all by patient.
        read_from: Which part of the reports the labels were read from. Those of the whole report tell of history and
            earlier films too.
        labels: What uncertain and blank labels mean.
        ask: What is asked about each study.
    """

    name = "chexpert_plus"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        splits: Literal["official", "hash"] = "official",
        read_from: Literal["impression", "findings", "report"] = "impression",
        labels: ObservationLabels = DEFAULT_LABELS,
        ask: StudyQuestions = DEFAULT_QUESTIONS,
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.splits = splits
        self.read_from = read_from
        self.labels = labels
        self.ask = ask

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions study by study, in the order of the table.

        Raises:
            DataError: The table or the labels are missing or lack a column.
        """
        if not (self.root / _TABLE).is_file():
            raise no_layout(self.name, root=self.root, expected=f"{_TABLE} and PNG/")
        marks = self._marks()
        rows = read_csv(self.root / _TABLE, columns=_COLUMNS)
        studies = read_studies(self.name, rows, lambda row: self._study(row, marks))
        yield from ask_about(studies, source=self.name, ask=self.ask)

    def _marks(self) -> Mapping[str, Mapping[str, str]]:
        if not self.ask.asks_for_findings():
            return {}
        file = f"{self.read_from}_fixed.json"
        folder = next((one for one in (self.root / "chexbert_labels", self.root) if (one / file).is_file()), None)
        if folder is None:
            raise no_layout(self.name, root=self.root, expected=f"chexbert_labels/{file}, which holds the findings")
        rows = in_cells(read_json_lines(folder / file, columns=("path_to_image", *OBSERVATIONS)))
        return {row.maybe("path_to_image"): row.cells for row in rows}

    def _study(self, row: Row, marks: Mapping[str, Mapping[str, str]]) -> Study:
        path = row.text("path_to_image")
        parts = PurePosixPath(path).parts
        if len(parts) < 4:
            raise RecordError(f"'path_to_image' is {path!r}; expected train/patient1/study1/view1_frontal.jpg")
        patient, study = row.text("deid_patient_id"), parts[-2]
        official = row.one_of("split", _OFFICIAL)
        truths = Truths((), ())
        if self.ask.asks_for_findings():
            if path not in marks:
                raise RecordError(f"image {path!r} has no labels")
            truths = self.labels.read(marks[path])
        lateral = row.maybe("frontal_lateral") == "Lateral"
        return Study(
            id=f"{patient}/{study}",
            patient=patient,
            films=(
                Film(
                    name=f"{patient}/{study}/{PurePosixPath(path).stem}",
                    image=self._image(PurePosixPath(*parts[-4:])),
                    view=LATERAL if lateral else normal_view(row.maybe("ap_pa")),
                ),
            )
            if self.ask.images != "none"
            else (),
            split=_OFFICIAL[official]
            if self.splits == "official"
            else assign(patient, seed=self.seed, fractions=self.fractions),
            sections={part: " ".join(row.maybe(f"section_{part}").split()) for part in ("findings", "impression")},
            present=truths.present,
            known=truths.known,
            attributes=present(
                {
                    "sex": _SEXES.get(row.maybe("sex"), ""),
                    "age": age_in_years(row.maybe("age")) if row.maybe("age") not in ("", "0", "0.0") else None,
                    "race": _known(row, "race"),
                    "ethnicity": _known(row, "ethnicity"),
                    "insurance": _known(row, "insurance_type"),
                    "official_split": official,
                }
            ),
        )

    def _image(self, path: PurePosixPath) -> ImageFile:
        stem = str(path.with_suffix(""))
        names = [name.format(stem=stem) for name in _IMAGES]
        return image_in(self.root, next((name for name in names if (self.root / name).is_file()), names[0]))


def _known(row: Row, column: str) -> str:
    value = row.maybe(column)
    return "" if value in _UNKNOWN else value
