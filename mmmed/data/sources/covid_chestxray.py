"""Chest films of COVID-19 and other pneumonias with clinical notes (Cohen et al. 2020, arXiv 2006.11988)."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from mmmed.data.question import YES_NO, about_image, yes_no
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import Row, age_in_years, image_in, no_layout, present, quarantine, read_csv, read_header
from mmmed.errors import RecordError
from mmmed.records import Example, Quarantined

logger = logging.getLogger(__name__)

Question = Literal["report", "finding"]
Modality = Literal["X-ray", "CT"]

FINDING_QUESTION = "Is there evidence of COVID-19 pneumonia?"
REPORT_QUESTIONS: dict[Modality, str] = {
    "X-ray": "Describe this chest radiograph and the case.",
    "CT": "Describe this chest CT image and the case.",
}

_UNLABELLED = frozenset({"", "todo", "unknown"})
_NOT_STATED = "not stated"
# Identical images came in from Radiopaedia and from Eurorad under two numbers (97 and 178), and one film in two
# croppings (30 and 31): one person each.
_SAME_PERSON = {"178": "97", "31": "30"}


class _Layout(NamedTuple):
    """Where a version of the metadata keeps what; the other columns have the same names in both."""

    patient: str
    offset: str
    image: str

    def columns(self) -> tuple[str, ...]:
        return (*self, "sex", "age", "finding", "view", "modality", "clinical_notes", "license")


_RELEASE = _Layout(patient="patientid", offset="offset", image="filename")
_SAMPLE = _Layout(patient="patient_id", offset="offset_days", image="image")


class CovidChestXray:
    """Reads the repository as published, or a sample of it with one relative `image` path per row.

    Each labelled image yields "is this COVID-19?", and each image with a note "describe it". The notes tell the
    case and often name the diagnosis; they are not radiology reports.

    Args:
        root: Folder with metadata.csv.
        seed: Changes which patients fall into which split.
        fractions: Share of the patients in each split.
        questions: What is asked about each image.
        modalities: Which images are read; the others are left out without a count.
    """

    name = "covid_chestxray"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        questions: Sequence[Question] = ("report", "finding"),
        modalities: Sequence[Modality] = ("X-ray",),
    ) -> None:
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.questions = tuple(questions)
        self.modalities = tuple(modalities)

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions image by image, in the order of the file.

        Raises:
            DataError: The metadata are missing or lack a column.
        """
        metadata = self.root / "metadata.csv"
        if not (metadata.is_file() and (self.root / "images").is_dir()):
            raise no_layout(self.name, root=self.root, expected="metadata.csv and the folder images/")
        layout = _SAMPLE if _SAMPLE.image in read_header(metadata) else _RELEASE
        rows = [
            row
            for row in read_csv(metadata, columns=layout.columns())
            if row.fault or row.maybe("modality") in self.modalities
        ]
        yield from quarantine(self.name, rows, lambda row: self._examples(row, layout))
        silent = sum(not row.fault and not row.maybe("clinical_notes") for row in rows)
        if silent and "report" in self.questions:
            logger.info("%s: %d of %d images have no note and are not described", self.name, silent, len(rows))

    def _examples(self, row: Row, layout: _Layout) -> Iterator[Example]:
        patient = _patient(row.text(layout.patient))
        offset = _day(row.maybe(layout.offset))
        path = row.text(layout.image) if layout is _SAMPLE else f"{row.text('folder')}/{row.text('filename')}"
        image = image_in(self.root, path)
        sex, age, finding = row.maybe("sex"), row.maybe("age"), row.maybe("finding")
        if sex not in ("", "M", "F"):
            raise RecordError(f"'sex' is {sex!r}; expected M, F or nothing")
        modality: Modality = "CT" if row.text("modality") == "CT" else "X-ray"
        labelled = finding.lower() not in _UNLABELLED
        attributes = present(
            {
                "sex": sex,
                "age": age_in_years(age) if age else None,
                "view": row.maybe("view").replace("?", ""),
                "modality": modality,
                "finding": finding if labelled else "",
            }
        )
        answers = {
            "report": (REPORT_QUESTIONS[modality], row.maybe("clinical_notes"), ()),
            "finding": (FINDING_QUESTION, yes_no(_is_covid(finding)) if labelled else "", YES_NO),
        }
        for topic in self.questions:
            question, answer, options = answers[topic]
            if not answer:
                continue
            yield Example(
                id=f"{row.maybe('source_filename') or image.path.name}:{topic}",
                patient=patient,
                turns=about_image(question, answer),
                images=(image,),
                options=options,
                topic=topic,
                split=assign(patient, seed=self.seed, fractions=self.fractions),
                source=self.name,
                study=f"{patient}@{offset}" if offset else "",
                attributes=attributes,
                licence=row.maybe("license") or _NOT_STATED,
            )


def _patient(number: str) -> str:
    # "97.0" and "covid_97" are the patient 97: the split must not depend on how the file was saved.
    bare = number.removeprefix("covid_").removesuffix(".0")
    return f"covid_{_SAME_PERSON.get(bare, bare)}"


def _day(offset: str) -> str:
    """Days since the first symptoms or admission, or nothing where it is not a number."""
    return offset.removesuffix(".0") if re.fullmatch(r"-?\d+(\.0)?", offset) else ""


def _is_covid(finding: str) -> bool:
    # "COVID-19, ARDS" in earlier versions, "Pneumonia/Viral/COVID-19" in later ones.
    return "COVID-19" in re.split(r"\s*[,/]\s*", finding)
