"""A user's own images with questions and answers, or with reports: one file, one row per answer."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mmmed.data.question import about_image
from mmmed.data.splits import DEFAULT_FRACTIONS, Fractions, assign, check_disjoint
from mmmed.data.tabular import Row, age_in_years, image_in, present, quarantine, read_csv, read_header, read_json
from mmmed.errors import DataError, RecordError, did_you_mean
from mmmed.records import SPLITS, Example, Quarantined, Split

REQUIRED = ("image", "answer", "patient")
OPTIONAL = ("question", "options", "topic", "split", "study", "id")
KNOWN = (*REQUIRED, *OPTIONAL)
SUFFIXES = (".csv", ".jsonl")
SEPARATOR = "|"
# As alike as "question" and "questions"; "patient_id" and "image_type" are names of their own.
_MISSPELT = 0.9


class _Table(NamedTuple):
    """The user's file as read."""

    columns: Sequence[str]
    rows: Sequence[Row]


class Pairs:
    """Reads a user's own data from a CSV file with a header, or from JSON lines with the same names.

    Every row has an `image`, an `answer` and a `patient`. It may have a `question`; a file without that column
    holds reports, and `instruction` is what is asked. `options` closes a question ("yes|no"), `split` places the
    patient, `study` and `id` identify, `topic` groups results; every other column becomes an attribute.
    White space and line breaks in texts become single spaces.

    Args:
        path: The file.
        images: Folder the images are relative to; None is the file's own.
        instruction: What is asked where the file has no questions.
        seed: Changes the splits, where the file has no column `split`.
        fractions: Share of the patients in each split, where the file has no column `split`.
    """

    name = "pairs"

    def __init__(
        self,
        path: str,
        *,
        images: str | None = None,
        instruction: str = "Describe this image.",
        seed: int = 0,
        fractions: Fractions = DEFAULT_FRACTIONS,
    ) -> None:
        self.path = Path(path)
        self.images = Path(images) if images is not None else self.path.parent
        self.instruction = instruction
        self.seed = seed
        self.fractions = fractions

    def prepare(self) -> None:
        """Nothing to make."""

    def records(self) -> Iterator[Example | Quarantined]:
        """Yield the rows in the order of the file.

        Raises:
            DataError: The file is missing or lacks a column, no row of it can be used, or its splits share a
                patient, a study or an image.
        """
        table = self._table()
        records = list(quarantine(self.name, table.rows, lambda row: [self._example(row, table.columns)]))
        examples = [record for record in records if isinstance(record, Example)]
        if not examples:
            faults = (record for record in records if isinstance(record, Quarantined))
            first = next((f"; the first is {one.record}: {one.reason}" for one in faults), "")
            raise DataError(f"none of the {len(records)} rows of {self.path} can be used{first}")
        check_disjoint(examples, quoted=False)
        yield from records

    def _table(self) -> _Table:
        if self.path.suffix not in SUFFIXES:
            raise DataError(f"{self.path} is no {' or '.join(SUFFIXES)} file; save the table as one of these")
        if not self.path.is_file():
            raise DataError(f"there is no file {self.path}; give the path of your own table (columns: {_columns()})")
        if self.path.suffix == ".csv":
            columns = read_header(self.path)
            rows = list(read_csv(self.path, columns=()))
        else:
            rows = read_json(self.path, columns=())
            columns = list(dict.fromkeys(column for row in rows for column in row.cells))
        if columns or not rows:  # rows that are all unreadable say more than the columns they lack
            _check_columns(columns, path=self.path)
        return _Table(columns, rows)

    def _example(self, row: Row, columns: Sequence[str]) -> Example:
        patient = row.text("patient")
        asks = "question" in columns
        options = _options(row.maybe("options"))
        return Example(
            id=row.maybe("id") or row.place,
            patient=patient,
            turns=about_image(row.line("question") if asks else self.instruction, row.line("answer")),
            images=(image_in(self.images, row.text("image")),),
            options=options,
            topic=row.maybe("topic") or _topic(asks=asks, closed=bool(options)),
            split=_split(row) if "split" in columns else assign(patient, seed=self.seed, fractions=self.fractions),
            source=self.name,
            study=row.maybe("study"),
            # A nameless column is the row number that pandas writes.
            attributes=present({column: _attribute(row, column) for column in columns if column not in (*KNOWN, "")}),
        )


def _check_columns(columns: Sequence[str], *, path: Path) -> None:
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        raise DataError(
            f"{path} lacks the column(s) {', '.join(map(repr, missing))}; "
            f"it has {', '.join(map(repr, columns)) or 'none'}; name its columns {_columns()}"
        )
    for column in columns:
        if columns.count(column) > 1:
            raise DataError(f"{path} has the column {column!r} twice; rename or remove one")
        # A misspelt one would become an attribute in silence, and its questions would never be asked.
        near = difflib.get_close_matches(column.lower(), KNOWN, n=1, cutoff=_MISSPELT)
        if column not in KNOWN and near:
            raise DataError(f"{path}: column {column!r} looks like {near[0]!r}; write it so, or name it otherwise")


def _columns() -> str:
    return f"{', '.join(REQUIRED)}, and where known {', '.join(OPTIONAL)}"


def _options(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    options = tuple(" ".join(part.split()) for part in text.split(SEPARATOR))
    if len(options) < 2 or "" in options or len(set(options)) < len(options):
        raise RecordError(f"'options' is {text!r}; expected two or more different answers such as 'yes{SEPARATOR}no'")
    return options


def _topic(*, asks: bool, closed: bool) -> str:
    if not asks:
        return "report"
    return "closed" if closed else "open"


def _split(row: Row) -> Split:
    value = row.maybe("split")
    for split in SPLITS:
        if value == split:
            return split
    raise RecordError(f"'split' is {value!r}{did_you_mean(value, SPLITS)}")


def _attribute(row: Row, column: str) -> str | float | None:
    value = row.maybe(column)
    if column == "age" and value:
        return age_in_years(value)
    return value
