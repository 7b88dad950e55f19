"""MIMIC-CXR and MIMIC-CXR-JPG: chest films of an emergency department with reports (Johnson et al. 2019)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.data.observations import DEFAULT_LABELS, ObservationLabels, Truths
from mmmed.data.sections import sections
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.study import DEFAULT_QUESTIONS, Film, Study, StudyQuestions, ask_about, normal_view, read_studies
from mmmed.data.tabular import Row, image_in, no_layout, present, read_csv, table
from mmmed.errors import DataError, ImageError, RecordError
from mmmed.processing.dicom import DicomImage, attributes, read_dataset
from mmmed.processing.findings.labeller import OBSERVATIONS
from mmmed.records import Example, LazyImage, Quarantined, Split

_RELEASE = "mimic-cxr-2.0.0"
_RECORDS = "cxr-record-list.csv"
_OFFICIAL: dict[str, Split] = {"train": "train", "validate": "validation", "test": "test"}
_REPORT_FOLDERS = ("files", "mimic-cxr-reports/files")
_OLDEST = 91
"""Age in years that MIMIC-IV writes for everyone older than 89."""


class _Person(NamedTuple):
    """What MIMIC-IV knows of a patient; the age belongs to the anchor year."""

    sex: str
    age: int
    year: int
    race: str
    insurance: str


class _Tables(NamedTuple):
    """What is joined to each film."""

    splits: Mapping[str, str] | None
    marks: Mapping[str, Mapping[str, str]]
    people: Mapping[str, _Person]
    reports: Path | None


class MimicCxr:
    """Reads MIMIC-CXR-JPG (the tables and files/p10/p10000032/s50414267/….jpg) with the reports of MIMIC-CXR.

    With `release: dicom` the films are the DICOM files of MIMIC-CXR (files/p10/p10000032/s50414267/….dcm), read as
    they are windowed there. The tables of MIMIC-CXR-JPG fit them and are used where they lie in the root; without them
    the films are those of cxr-record-list.csv, the view stands in the file, and splits are drawn by patient.

    The reports lie in files/p10/p10000032/s50414267.txt under the root, in mimic-cxr-reports/files/ under it (the
    unpacked mimic-cxr-reports.zip), or under `reports`. Their findings and impression are cut out; a report without
    such headings is not asked for.

    Args:
        root: Folder with mimic-cxr-2.0.0-split.csv, -metadata.csv and -chexpert.csv or -negbio.csv, each as it is or
            packed (.csv.gz).
        release: Which pictures lie there: `jpg` or `dicom`.
        reports: Folder of MIMIC-CXR with files/; None looks under the root.
        hosp: Folder hosp/ of MIMIC-IV, for sex, age, race and insurance; None leaves them unknown.
        seed: Changes which patients fall into which split, where these are drawn.
        fractions: Share of the patients in each split, where these are drawn.
        splits: `official` takes the published split, which shares no patient; `hash` draws one by patient.
        labeller: Whose labels are read.
        labels: What uncertain and blank labels mean.
        ask: What is asked about each study. `without: [___]` leaves out the sections in which words are blacked out.
    """

    name = "mimic_cxr"

    def __init__(
        self,
        root: str,
        *,
        reports: str | None = None,
        hosp: str | None = None,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        splits: Literal["official", "hash"] = "official",
        labeller: Literal["chexpert", "negbio"] = "chexpert",
        labels: ObservationLabels = DEFAULT_LABELS,
        ask: StudyQuestions = DEFAULT_QUESTIONS,
        release: Literal["jpg", "dicom"] = "jpg",
    ) -> None:
        self.root = Path(root)
        self.reports = Path(reports) if reports is not None else None
        self.hosp = Path(hosp) if hosp is not None else None
        self.seed = seed
        self.fractions = fractions
        self.splits = splits
        self.labeller = labeller
        self.labels = labels
        self.ask = ask
        self.release = release

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions study by study, in the order of the metadata, or of the list of DICOM files.

        Raises:
            DataError: A table, or the reports that are asked for, are missing, or a table lacks a column.
        """
        films = self._films()
        tables = _Tables(self._splits(), self._marks(), self._people(), self._report_folder())
        texts: dict[str, Mapping[str, str]] = {}
        studies = read_studies(self.name, films, lambda row: self._study(row, tables, texts))
        yield from ask_about(studies, source=self.name, ask=self.ask)

    def _films(self) -> Iterator[Row]:
        listed = table(self.root, _RECORDS) if self.release == "dicom" else None
        if listed is not None and table(self.root, f"{_RELEASE}-metadata.csv") is None:
            return read_csv(listed, columns=("subject_id", "study_id", "dicom_id"))
        columns = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate")
        return read_csv(self._table("metadata"), columns=columns)

    def _table(self, name: str) -> Path:
        found = table(self.root, f"{_RELEASE}-{name}.csv")
        if found is None:
            raise no_layout(self.name, root=self.root, expected=f"{_RELEASE}-{name}.csv or {_RELEASE}-{name}.csv.gz")
        return found

    def _splits(self) -> Mapping[str, str] | None:
        if self.release == "dicom" and self.splits == "hash" and table(self.root, f"{_RELEASE}-split.csv") is None:
            return None
        rows = read_csv(self._table("split"), columns=("dicom_id", "split"))
        return {row.maybe("dicom_id"): row.maybe("split") for row in rows}

    def _marks(self) -> Mapping[str, Mapping[str, str]]:
        if not self.ask.asks_for_findings():
            return {}
        rows = read_csv(self._table(self.labeller), columns=("study_id", *OBSERVATIONS))
        return {row.maybe("study_id"): row.cells for row in rows}

    def _report_folder(self) -> Path | None:
        if not self.ask.asks_for_text():
            return None
        roots = [self.root] if self.reports is None else [self.reports]
        folders = [root / name for root in roots for name in _REPORT_FOLDERS]
        for folder in folders:
            if any(folder.glob("p*/p*/s*.txt")):
                return folder
        raise no_layout(
            self.name, root=roots[0], expected="reports as files/p10/p10000032/s50414267.txt (or ask for findings only)"
        )

    def _people(self) -> Mapping[str, _Person]:
        if self.hosp is None:
            return {}
        patients, admissions = table(self.hosp, "patients.csv"), table(self.hosp, "admissions.csv")
        if patients is None or admissions is None:
            raise DataError(f"{self.hosp} lacks patients.csv or admissions.csv; give the folder hosp/ of MIMIC-IV")
        stays: dict[str, dict[str, str]] = defaultdict(dict)
        for row in read_csv(admissions, columns=("subject_id", "race", "insurance")):
            for column in ("race", "insurance"):
                if value := row.maybe(column):
                    stays[row.maybe("subject_id")][column] = value
        people = {}
        for row in read_csv(patients, columns=("subject_id", "gender", "anchor_age", "anchor_year")):
            known = stays[row.maybe("subject_id")]
            try:
                age, year = int(row.maybe("anchor_age")), int(row.maybe("anchor_year"))
            except ValueError as error:
                raise DataError(f"{patients}: {row.place}: anchor_age or anchor_year is no number; fetch it") from error
            person = _Person(row.maybe("gender"), age, year, known.get("race", ""), known.get("insurance", ""))
            people[row.maybe("subject_id")] = person
        return people

    def _image(self, name: str) -> LazyImage:
        if self.release == "dicom":
            return DicomImage(path=image_in(self.root, f"{name}.dcm").path)
        return image_in(self.root, f"{name}.jpg")

    def _study(self, row: Row, tables: _Tables, texts: dict[str, Mapping[str, str]]) -> Study:
        subject, study, film = row.text("subject_id"), row.text("study_id"), row.text("dicom_id")
        place = f"p{subject[:2]}/p{subject}/s{study}"
        official = tables.splits.get(film, "") if tables.splits is not None else ""
        if official not in _OFFICIAL and tables.splits is not None:
            raise RecordError(f"image {film!r} has no split among {', '.join(_OFFICIAL)}")
        if tables.reports is not None and study not in texts:
            texts[study] = sections(_read(tables.reports / f"{place}.txt"))
        # A few studies have no label file entry: the labellers found no text in them.
        unlabelled = study not in tables.marks
        truths = Truths((), ()) if unlabelled else self.labels.read(tables.marks[study])
        images = () if self.ask.images == "none" else (self._image(f"files/{place}/{film}"),)
        view = row.maybe("ViewPosition")
        if "ViewPosition" not in row.cells and images:
            view = _view_of(images[0])
        return Study(
            id=f"s{study}",
            patient=f"p{subject}",
            films=tuple(Film(name=film, image=image, view=normal_view(view)) for image in images),
            split=_OFFICIAL[official]
            if self.splits == "official"
            else assign(f"p{subject}", seed=self.seed, fractions=self.fractions),
            sections=texts.get(study, {}),
            present=truths.present,
            known=truths.known,
            attributes=present(
                {**_facts(tables.people.get(subject), date=row.maybe("StudyDate")), "official_split": official or None}
            ),
        )


def _view_of(image: LazyImage) -> str:
    """The view that a DICOM file names; nothing where it names none, or cannot be read, as its opening will show."""
    if not isinstance(image, DicomImage):
        return ""
    try:
        return str(attributes(read_dataset(image.path, pixels=False), path=image.path).get("view", ""))
    except ImageError:
        return ""


def _facts(person: _Person | None, *, date: str) -> dict[str, str | float | None]:
    if person is None:
        return {}
    age = person.age + int(date[:4]) - person.year if date[:4].isdecimal() else None
    return {
        "sex": person.sex,
        "age": None if age is None or age < 0 else float(min(age, _OLDEST)),
        "race": person.race,
        "insurance": person.insurance,
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecordError(f"report {path.name!r} is missing") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"report {path.name!r} cannot be read ({error})") from error
