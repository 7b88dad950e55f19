"""COVID-19 lung ultrasound: images and frames with expert comments (Born et al., Applied Sciences 2021)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.data.findings import Asked, balanced
from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import (
    Row,
    age_in_years,
    image_in,
    index_images,
    no_layout,
    present,
    quarantine,
    read_csv,
)
from mmmed.errors import RecordError
from mmmed.processing.image import ImageFile
from mmmed.records import Example, Quarantined

Question = Literal["caption", "reading", "diagnosis", "finding"]

DIAGNOSES: Mapping[str, str] = {
    "COVID-19": "COVID-19",
    "Bacterial pneumonia": "bacterial pneumonia",
    "Viral pneumonia": "viral pneumonia",
    "regular": "healthy",
}
"""Labels of the table, and what they are called here."""

FINDINGS: Mapping[str, str] = {
    "effusion": "Is there a pleural effusion?",
    "consolidations": "Is there a consolidation?",
    "b_lines": "Are there B-lines?",
    "a_lines": "Are there A-lines?",
    "pleural_line_irregularities": "Is the pleural line irregular?",
    "air_bronchogram": "Is there an air bronchogram?",
    "healthy": "Is this lung healthy?",
}

CAPTION = "Describe this lung ultrasound image."
READING = "What does this lung ultrasound image show?"
DIAGNOSIS = "What is the diagnosis in this lung ultrasound image?"

_REFUSED = "do not use"
# One clip or image came in from two sources under two numbers: one person each.
_SAME_PERSON = {"116": "114", "210": "175", "189": "188", "198": "192"}
_SEXES = {"M": "M", "F": "F", "W": "F", "nd": "", "": ""}
_IMAGE_FOLDERS = ("pocus_images/convex", "pocus_images/linear", "pocus_images/Convex", "pocus_images/Linear")
_IN_USE = "pocus_images"
_NO_LICENCE = "not stated"


class _Layout(NamedTuple):
    """Where a version of the table keeps what."""

    image: str
    patient: str
    video: str
    label: str
    probe: str
    sex: str
    age: str
    caption: str
    readings: tuple[str, ...]
    findings: Mapping[str, str]
    licence: str


_SAMPLE = _Layout(
    image="image",
    patient="patient_id",
    video="video_id",
    label="label",
    probe="probe",
    sex="sex",
    age="age",
    caption="caption_source",
    readings=("comment_md1", "comment_md2"),
    findings={finding: finding for finding in FINDINGS},
    licence="license",
)
_RELEASE = _Layout(
    image="Filename",
    patient="Patient ID / Name",
    video="Filename",
    label="Label",
    probe="Probe",
    sex="Gender",
    age="Age",
    caption="Comments from web site",
    readings=("Comments first medical doctor (MD1)", "MD2"),
    findings={
        "effusion": "Effusion",
        "consolidations": "Consolidations",
        "b_lines": "B-lines",
        "a_lines": "A-lines",
        "pleural_line_irregularities": "Pleural line irregularities",
        "air_bronchogram": "Air bronchogram",
        "healthy": "Healthy",
    },
    licence="License",
)


class Pocus:
    """Reads the images of the authors' repository (data/, with dataset_metadata.csv), or a sample with metadata.csv.

    Of the repository, the single images under pocus_images/ are read; its videos are not, and rows that the authors
    put aside are left out. An image of which an expert says "do not use" is set aside. The remarks about patients are
    never read: one of them is a first name. Frames of one video are near copies; splits go by patient.

    Args:
        root: Folder with the table.
        seed: Changes which patients fall into which split, and which absent findings are asked about.
        fractions: Share of the patients in each split.
        questions: What is asked: `caption` (what the web site or paper writes), `reading` (what the experts see),
            `diagnosis` (of four), `finding` (yes/no questions about single signs).
        findings: Which findings are asked about.
    """

    name = "pocus"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        questions: Sequence[Question] = ("reading", "diagnosis", "finding"),
        findings: Asked = "balanced",
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.questions = tuple(questions)
        self.findings = findings

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions image by image, in the order of the table.

        Raises:
            DataError: The table is missing or lacks a column.
        """
        sample, release = self.root / "metadata.csv", self.root / "dataset_metadata.csv"
        if sample.is_file() and (self.root / "images").is_dir():
            layout, rows = _SAMPLE, list(read_csv(sample, columns=_columns(_SAMPLE)))
            images: Mapping[str, ImageFile] | None = None
        elif release.is_file() and (
            folders := [self.root / name for name in _IMAGE_FOLDERS if (self.root / name).is_dir()]
        ):
            layout = _RELEASE
            rows = [row for row in read_csv(release, columns=_columns(_RELEASE)) if row.fault or _in_use(row)]
            images = {Path(name).stem: ImageFile(path) for name, path in index_images(folders).items()}
        else:
            raise no_layout(
                self.name,
                root=self.root,
                expected="dataset_metadata.csv and pocus_images/, or metadata.csv and images/",
            )
        counts = Counter(finding for row in rows if not row.fault for finding in _shown(row, layout))
        yield from quarantine(self.name, rows, lambda row: self._examples(row, layout, images, counts))

    def _examples(
        self, row: Row, layout: _Layout, images: Mapping[str, ImageFile] | None, counts: Mapping[str, int]
    ) -> Iterator[Example]:
        name = row.text(layout.image)
        reading = "; ".join(dict.fromkeys(text for column in layout.readings if (text := _line(row, column))))
        if _REFUSED in reading.lower():
            raise RecordError(f"an expert says of {name!r}: {reading}")
        image = image_in(self.root, name) if images is None else _found(images, name)
        diagnosis = DIAGNOSES[row.one_of(layout.label, DIAGNOSES)]
        patient, age = _patient(row.text(layout.patient)), row.maybe(layout.age)
        shown = _shown(row, layout)
        # A row in which nobody filled in the signs says neither yes nor no.
        known = [finding for finding, column in layout.findings.items() if row.maybe(column) in ("0", "1")]
        attributes = present(
            {
                "sex": _SEXES.get(row.maybe(layout.sex).upper(), _SEXES.get(row.maybe(layout.sex), "")),
                "age": age_in_years(age) if age.replace(".", "", 1).isdecimal() else None,
                "probe": row.maybe(layout.probe),
                "diagnosis": diagnosis,
                "findings": ";".join(shown),
            }
        )
        identifier = Path(name).name.removesuffix(".jpg")

        def example(topic: str, question: str, answer: str, options: tuple[str, ...] = (), suffix: str = "") -> Example:
            return Example(
                id=f"{identifier}:{suffix or topic}",
                patient=patient,
                turns=about_image(question, answer),
                images=(image,),
                options=options,
                topic=topic,
                split=assign(patient, seed=self.seed, fractions=self.fractions),
                source=self.name,
                study=row.maybe(layout.video),
                attributes=attributes,
                licence=row.maybe(layout.licence).replace("None", "") or _NO_LICENCE,
            )

        for topic in self.questions:
            if topic == "caption" and (caption := _line(row, layout.caption)):
                yield example("caption", CAPTION, caption)
            elif topic == "reading" and reading:
                yield example("reading", READING, reading)
            elif topic == "diagnosis":
                yield example("diagnosis", DIAGNOSIS, diagnosis, tuple(DIAGNOSES.values()))
            elif topic == "finding":
                chance = f"{self.seed}:{identifier}"
                asked = known if self.findings == "all" else balanced(shown, known, counts=counts, chance=chance)
                for finding in asked:
                    yield example(
                        finding.replace("_", " "), FINDINGS[finding], yes_no(finding in shown), YES_NO, suffix=finding
                    )


def _columns(layout: _Layout) -> tuple[str, ...]:
    single = (layout.image, layout.patient, layout.label, layout.probe, layout.sex, layout.age, layout.licence)
    return (*single, layout.video, layout.caption, *layout.readings, *layout.findings.values())


def _shown(row: Row, layout: _Layout) -> tuple[str, ...]:
    return tuple(finding for finding, column in layout.findings.items() if row.maybe(column) == "1")


def _line(row: Row, column: str) -> str:
    return " ".join(row.maybe(column).split())


def _patient(number: str) -> str:
    prefix = "pocus_" if number.startswith("pocus_") else ""
    bare = number.removeprefix(prefix).removesuffix(".0")
    return f"{prefix}{_SAME_PERSON[bare]}" if bare in _SAME_PERSON else number


def _in_use(row: Row) -> bool:
    return row.maybe("Type").lower() == "image" and _IN_USE in row.maybe("Current location")


def _found(images: Mapping[str, ImageFile], name: str) -> ImageFile:
    if name not in images:
        raise RecordError(f"image {name!r} is missing under {_IN_USE}/")
    return images[name]
