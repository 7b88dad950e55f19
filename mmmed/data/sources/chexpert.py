"""CheXpert: Stanford's chest films with fourteen observations (Irvin et al., AAAI 2019)."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Literal

from mmmed.data.observations import DEFAULT_LABELS, ObservationLabels
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.study import LATERAL, Film, Study, StudyQuestions, ask_about, normal_view, read_studies
from mmmed.data.tabular import Row, age_in_years, image_in, no_layout, present, read_csv
from mmmed.errors import ConfigError, RecordError
from mmmed.processing.findings.labeller import OBSERVATIONS
from mmmed.records import Example, Quarantined, Split

_OFFICIAL: dict[str, Split] = {"train": "train", "valid": "validation", "test": "test"}
_SEXES = {"Male": "M", "Female": "F", "Unknown": ""}
_QUESTIONS = StudyQuestions(questions=("finding",), images="each")


class CheXpert:
    """Reads CheXpert-v1.0 and CheXpert-v1.0-small: train.csv, valid.csv and, where it lies beside them, test.csv.

    The official parts share no patient. valid.csv (and test.csv) were read by radiologists, train.csv by a labeller
    that marks what a report leaves open; what is made of such marks is said by `labels`.

    Args:
        root: Folder with train.csv, and the folders train/ and valid/ with the images.
        seed: Changes which patients fall into which split, where these are drawn.
        fractions: Share of the patients in each split, where these are drawn.
        splits: `official` takes the parts as published; `hash` draws all splits by patient from all parts.
        labels: What uncertain and blank labels mean.
        ask: Which findings are asked about, of which films.

    Raises:
        ConfigError: Reports are asked for.
    """

    name = "chexpert"

    def __init__(
        self,
        root: str,
        *,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
        splits: Literal["official", "hash"] = "official",
        labels: ObservationLabels = DEFAULT_LABELS,
        ask: StudyQuestions = _QUESTIONS,
    ) -> None:
        if ask.asks_for_text():
            raise ConfigError("CheXpert has no reports; ask for `finding` alone, or read CheXpert Plus")
        self.root = Path(root)
        self.seed = seed
        self.fractions = fractions
        self.splits = splits
        self.labels = labels
        self.ask = ask

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the questions film by film, in the order of train.csv, valid.csv and test.csv.

        Raises:
            DataError: The tables are missing or lack a column.
        """
        tables = [self.root / f"{part}.csv" for part in _OFFICIAL if (self.root / f"{part}.csv").is_file()]
        if not tables:
            raise no_layout(self.name, root=self.root, expected="train.csv and valid.csv with train/ and valid/")
        rows = chain.from_iterable(read_csv(table, columns=("Path", *OBSERVATIONS)) for table in tables)
        yield from ask_about(read_studies(self.name, rows, self._study), source=self.name, ask=self.ask)

    def _study(self, row: Row) -> Study:
        path = _inside(row.text("Path"))
        part, patient, study, file = path.parts
        sex, age = row.maybe("Sex"), row.maybe("Age")
        if sex and sex not in _SEXES:
            raise RecordError(f"'Sex' is {sex!r}; expected Male, Female, Unknown or nothing")
        truths = self.labels.read({observation: row.maybe(observation) for observation in OBSERVATIONS})
        view = LATERAL if row.maybe("Frontal/Lateral") == "Lateral" else normal_view(row.maybe("AP/PA"))
        return Study(
            id=f"{patient}/{study}",
            patient=patient,
            films=(Film(name=f"{patient}/{study}/{Path(file).stem}", image=image_in(self.root, str(path)), view=view),),
            split=_OFFICIAL[part]
            if self.splits == "official"
            else assign(patient, seed=self.seed, fractions=self.fractions),
            present=truths.present,
            known=truths.known,
            attributes=present(
                {
                    "sex": _SEXES.get(sex, ""),
                    # An age of 0 stands for one that is not known; the youngest patients are adults.
                    "age": age_in_years(age) if age not in ("", "0") else None,
                    "findings": ";".join(truths.present),
                    "official_split": part,
                }
            ),
        )


def _inside(path: str) -> PurePosixPath:
    """A path from the release's root: ``CheXpert-v1.0-small/train/patient1/study1/view1.jpg`` from ``train`` on."""
    parts = PurePosixPath(path).parts[-4:]
    if len(parts) != 4 or parts[0] not in _OFFICIAL:
        raise RecordError(f"'Path' is {path!r}; expected …/train/patient00001/study1/view1_frontal.jpg")
    return PurePosixPath(*parts)
