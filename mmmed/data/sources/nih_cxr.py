"""NIH ChestX-ray14: frontal chest films with fourteen text-mined findings (Wang et al., CVPR 2017)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mmmed.data.findings import Asked, balanced, question_about, topic_of
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
from mmmed.errors import RecordError, did_you_mean
from mmmed.processing.findings.labeller import NO_FINDING
from mmmed.records import Example, Quarantined

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
    NO_FINDING,
)


class _Layout(NamedTuple):
    """Where a version of the file keeps what."""

    image: str
    patient: str
    follow_up: str
    sex: str
    age: str
    view: str
    findings: str
    separator: str


class _Place(NamedTuple):
    """A data set as found: its annotation file, how to read it, and where its images lie."""

    file: Path
    layout: _Layout
    folders: list[Path]


_SAMPLE = _Layout("image", "patient_id", "follow_up", "sex", "age", "view", "findings", ";")
_RELEASE = _Layout(
    "Image Index", "Patient ID", "Follow-up #", "Patient Sex", "Patient Age", "View Position", "Finding Labels", "|"
)
# The edition of 2017 says gender where that of 2020 says sex.
_RELEASE_2017 = _RELEASE._replace(sex="Patient Gender")


class NihCxr:
    """Reads the NIH release (images/ or images_001/images/ and so on), or a sample of it with metadata.csv.

    Args:
        root: Folder with Data_Entry_2017*.csv or metadata.csv.
        seed: Changes the splits and which negatives are asked.
        fractions: Share of the patients in each split.
        questions: "balanced" asks each image about its findings and as many absent ones, drawn in proportion to
            how often a finding is present, so that "yes" is right about half the time for each finding; "all"
            asks every image about all of them, as audits of prevalence and underdiagnosis need.
    """

    name = "nih_cxr"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        questions: Asked = "balanced",
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.questions = questions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions image by image, in the order of the file and of `FINDINGS`.

        Raises:
            DataError: The annotations are missing or lack a column.
        """
        file, layout, folders = self._place()
        rows = list(read_csv(file, columns=layout[:-1]))
        present_counts = Counter(
            finding for row in rows if not row.fault for finding in row.maybe(layout.findings).split(layout.separator)
        )
        images = index_images(folders)
        yield from quarantine(self.name, rows, lambda row: self._examples(row, layout, images, present_counts))

    def _place(self) -> _Place:
        entries = sorted(self.root.glob("Data_Entry_2017*.csv"))
        folders = [
            folder for folder in (self.root / "images", *sorted(self.root.glob("images_*/images"))) if folder.is_dir()
        ]
        if entries and folders:
            newest = entries[-1]
            old = _RELEASE_2017.sex in read_header(newest)
            return _Place(newest, _RELEASE_2017 if old else _RELEASE, folders)
        sample = self.root / "metadata.csv"
        if sample.is_file() and folders:
            return _Place(sample, _SAMPLE, folders)
        raise no_layout(
            self.name, root=self.root, expected="Data_Entry_2017*.csv (or metadata.csv) and images/ or images_*/images/"
        )

    def _examples(
        self, row: Row, layout: _Layout, images: Mapping[str, Path], present_counts: Mapping[str, int]
    ) -> Iterator[Example]:
        patient = _patient(row.text(layout.patient))
        image = indexed_image(images, Path(row.text(layout.image)).name)
        findings = _findings(row.text(layout.findings), separator=layout.separator)
        study = f"{patient}@{row.text(layout.follow_up)}"
        attributes = present(
            {
                "sex": row.one_of(layout.sex, ("M", "F")),
                "age": age_in_years(row.text(layout.age)),
                "view": row.one_of(layout.view, ("PA", "AP")),
                "findings": ";".join(findings),
            }
        )
        identifier = image.path.stem.removeprefix("nih_")
        split = assign(patient, seed=self.seed, fractions=self.fractions)
        for finding in self._asked(identifier, findings, present_counts):
            yield Example(
                id=f"{identifier}:{finding}",
                patient=patient,
                turns=about_image(question_about(finding), yes_no(finding in findings)),
                images=(image,),
                options=YES_NO,
                topic=topic_of(finding),
                split=split,
                source=self.name,
                study=study,
                attributes=attributes,
            )

    def _asked(self, image: str, findings: tuple[str, ...], present_counts: Mapping[str, int]) -> list[str]:
        if self.questions == "all":
            return list(FINDINGS)
        return balanced(findings, FINDINGS, counts=present_counts, chance=f"{self.seed}:{image}")


def _patient(number: str) -> str:
    # The release counts 1..30805; padded, a patient keeps the split whichever version is read.
    bare = number.removeprefix("nih_")
    if not bare.isdecimal():
        raise RecordError(f"{number!r} is no patient number")
    return f"nih_{int(bare):08d}"


def _findings(text: str, *, separator: str) -> tuple[str, ...]:
    findings = tuple(dict.fromkeys(part.strip() for part in text.split(separator)))
    for finding in findings:
        if finding not in FINDINGS:
            raise RecordError(f"unknown finding {finding!r}{did_you_mean(finding, FINDINGS)}")
    if NO_FINDING in findings and len(findings) > 1:
        raise RecordError(f"{NO_FINDING!r} stands beside findings: {text!r}")
    return findings
