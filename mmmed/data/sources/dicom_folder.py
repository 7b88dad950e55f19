"""A hospital's own DICOM files, from a folder or a DICOMDIR, with questions or reports in a table beside them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmmed.data.question import about_image
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign
from mmmed.data.tabular import Row, quarantine, read_csv, read_header
from mmmed.errors import DataError, ImageError, RecordError
from mmmed.processing.dicom import DicomImage, Series, Slice, attributes, dicom_files, read_dataset, series_images
from mmmed.processing.dicom.series import in_order, read_slice
from mmmed.records import IMAGE_PLACEHOLDER, Example, Quarantined, Turn

KEYS = ("instance", "series", "study")
"""Columns that say what a row is about, the narrowest first: SOP, series or study instance UID."""


class _Archive(NamedTuple):
    """The readable objects, ordered, and what could not be read."""

    series: Mapping[str, Series]
    broken: Sequence[Quarantined]

    def about(self, key: str, uid: str) -> list[Series]:
        """The series, or the part of one, that a row is about."""
        if key == "series":
            return [self.series[uid]] if uid in self.series else []
        if key == "study":
            return [one for one in self.series.values() if one.slices[0].study == uid]
        return [
            Series(identifier=series.identifier, slices=(one,))
            for series in self.series.values()
            for one in series.slices
            if one.instance == uid
        ]


class DicomFolder:
    """Reads DICOM files and, where there is one, a table of what is asked and answered about them.

    The table is a CSV file with a column `instance`, `series` or `study` (a UID; more than one may stand, the narrowest
    that is filled counts), a column `answer`, and where known `question`, `options` ("yes|no"), `topic` and `id`.
    Without a table every series is one example without an answer, for a model to describe.

    Args:
        root: The folder; a DICOMDIR in it says which files there are.
        table: The CSV file.
        instruction: What is asked where the table has no question.
        slices: Most pictures of one series, at even distances through it.
        window: Name of a CT window, such as `lung`; None takes the one of the file.
        seed: Changes which patients fall into which split.
        fractions: Share of the patients in each split.
    """

    name = "dicom_folder"

    def __init__(
        self,
        root: str,
        *,
        table: str | None = None,
        instruction: str = "Describe this image.",
        slices: int = 1,
        window: str | None = None,
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
    ) -> None:
        self.root = Path(root)
        self.table = Path(table) if table is not None else None
        self.instruction = instruction
        self.slices = slices
        self.window = window
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield broken files, then the rows of the table, or else the series in the order of their files.

        Raises:
            DataError: There is no such folder, no DICOM file in it, or the table lacks its columns.
        """
        archive = self._archive()
        yield from archive.broken
        if self.table is None:
            for series in archive.series.values():
                yield self._without_answer(series)
            return
        rows = self._rows(self.table)
        yield from quarantine(self.name, rows, lambda row: [self._example(row, archive)])

    def _archive(self) -> _Archive:
        groups: dict[str, list[Slice]] = defaultdict(list)
        broken: list[Quarantined] = []
        for path in dicom_files(self.root):
            try:
                one = read_slice(path)
                if not one.series or not one.instance:
                    raise RecordError(f"DICOM file {path} has no series or instance UID; it belongs nowhere")
                groups[one.series].append(one)
            except (ImageError, RecordError) as error:
                broken.append(Quarantined(self.name, str(path.relative_to(self.root)), str(error)))
        series: dict[str, Series] = {}
        for identifier, slices in groups.items():
            try:
                series[identifier] = Series(identifier=identifier, slices=tuple(in_order(slices)))
            except RecordError as error:
                broken.append(Quarantined(self.name, identifier, str(error)))
        return _Archive(series, broken)

    def _rows(self, path: Path) -> list[Row]:
        if not path.is_file():
            raise DataError(f"{self.name}: there is no table {path}; give a CSV file, or none")
        columns = read_header(path)
        if "answer" not in columns or not any(key in columns for key in KEYS):
            raise DataError(
                f"{path} has the columns {', '.join(map(repr, columns)) or 'none'}; expected 'answer' and one of "
                f"{', '.join(map(repr, KEYS))}"
            )
        return list(read_csv(path, columns=()))

    def _example(self, row: Row, archive: _Archive) -> Example:
        key = next((key for key in KEYS if row.maybe(key)), None)
        if key is None:
            raise RecordError(f"none of {', '.join(map(repr, KEYS))} is filled")
        chosen = archive.about(key, row.text(key))
        if not chosen:
            raise RecordError(f"no readable object has the {key} UID {row.text(key)!r}")
        options = tuple(part.strip() for part in row.maybe("options").split("|")) if row.maybe("options") else ()
        question = row.maybe("question")
        if IMAGE_PLACEHOLDER in question + row.text("answer"):
            raise RecordError(f"the text holds {IMAGE_PLACEHOLDER!r}, which is put before the question; leave it out")
        topic = row.maybe("topic") or ("report" if not question else "closed" if options else "open")
        return self._make(
            chosen,
            id=row.maybe("id") or row.place,
            question=question,
            answer=row.text("answer"),
            options=options,
            topic=topic,
        )

    def _without_answer(self, series: Series) -> Example:
        return self._make([series], id=series.identifier, question="", answer="", options=(), topic="report")

    def _make(
        self, chosen: Sequence[Series], *, id: str, question: str, answer: str, options: tuple[str, ...], topic: str
    ) -> Example:
        first = chosen[0].slices[0]
        patient = first.patient or first.study or first.series
        images: tuple[DicomImage, ...] = tuple(
            image for series in chosen for image in series_images(series, count=self.slices, window=self.window)
        )
        return Example(
            id=id,
            patient=patient,
            turns=self._turns(question or self.instruction, answer, count=len(images)),
            images=images,
            options=options,
            topic=topic,
            split=assign(patient, seed=self.seed, fractions=self.fractions),
            source=self.name,
            study=first.study,
            attributes=attributes(read_dataset(first.path, pixels=False), path=first.path),
        )

    def _turns(self, question: str, answer: str, *, count: int) -> tuple[Turn, ...]:
        user, assistant = about_image(question, answer)
        user = Turn("user", f"{IMAGE_PLACEHOLDER}\n" * (count - 1) + user.text)
        return (user, assistant) if answer else (user,)
