"""The records of a prepared data set, in one table that is mapped into memory: opened at once, however long it is.

What decides order, splits and mixtures stands in columns; the rest of a record is JSON, which is parsed when the record
is asked for.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray
from pyarrow import ipc

from mmmed.data.picture_shards import ShardImage
from mmmed.data.places import Place
from mmmed.errors import DataError, RecordError
from mmmed.processing.processor import without_images
from mmmed.records import SPLITS, Example, Split, Turn

TABLE = "records.arrow"
PICTURES = "pictures"

SCHEMA = pyarrow.schema(
    {
        "id": pyarrow.string(),
        "patient": pyarrow.string(),
        "study": pyarrow.string(),
        "split": pyarrow.int8(),  # place in SPLITS
        "topic": pyarrow.string(),
        "answer": pyarrow.string(),  # the right option of a closed question that is asked alone
        "alone": pyarrow.bool_(),  # one answer is given in it
        "length": pyarrow.int32(),  # characters
        "bare_length": pyarrow.int32(),  # characters without what stands for images
        "picture_set": pyarrow.int32(),  # the same for the same pictures; -1 where nothing may be joined to it
        "option_set": pyarrow.int32(),  # the same for the same options; 0 for none
        "record": pyarrow.string(),
    }
)
_ROWS = 4096


class RecordWriter:
    """Writes examples into a table as they come, holding a few thousand at a time.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = ipc.new_file(str(path), SCHEMA)
        self._rows: list[dict[str, object]] = []
        self._picture_sets: dict[tuple[int, ...], int] = {}
        self._option_sets: dict[tuple[str, ...], int] = {(): 0}

    def add(self, example: Example, pictures: Sequence[tuple[int, str]]) -> None:
        """Write one example, whose pictures stand in the shards at these places and came from files of these names.

        Raises:
            RecordError: A text holds half a character, which no file can hold.
        """
        row = self._row(example, pictures)
        try:
            for value in row.values():
                if isinstance(value, str):
                    value.encode()
        except UnicodeEncodeError as error:
            raise RecordError("a text holds half a character, which cannot be written; mend the record") from error
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_batch(pyarrow.RecordBatch.from_pylist(self._rows, schema=SCHEMA))
            self._rows = []

    def _row(self, example: Example, pictures: Sequence[tuple[int, str]]) -> dict[str, object]:
        alone = sum(turn.speaker == "assistant" for turn in example.turns) == 1
        joins = example.images and not any(turn.rejected for turn in example.turns)
        places = tuple(place for place, _ in pictures)
        record = {
            "turns": [[turn.speaker, turn.text, turn.blanks, turn.rejected] for turn in example.turns],
            "images": pictures,
            "options": example.options,
            "attributes": dict(example.attributes),
            "licence": example.licence,
        }
        return {
            "id": example.id,
            "patient": example.patient,
            "study": example.study,
            "split": SPLITS.index(example.split),
            "topic": example.topic,
            "answer": example.reference if alone and example.options else "",
            "alone": alone,
            "length": _characters(example),
            "bare_length": _characters(without_images(example)),
            "picture_set": self._picture_sets.setdefault(places, len(self._picture_sets)) if joins else -1,
            "option_set": self._option_sets.setdefault(example.options, len(self._option_sets)),
            "record": json.dumps(record, ensure_ascii=False),
        }


class RecordTable(Sequence[Example]):
    """Examples of a table, made when asked for. It is picklable, and a copy maps the same file.

    Args:
        path: The file.
        source: Name of the data set.
        pictures: Folder of the shards.
        version: Of the data set.

    Raises:
        DataError: The file is missing or is no such table.
    """

    def __init__(self, path: Path, *, source: str, pictures: Place, version: str) -> None:
        self.path, self.source, self.pictures, self.version = path, source, pictures, version
        try:
            with pyarrow.memory_map(str(path)) as file:
                self._table = ipc.open_file(file).read_all()
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path} cannot be read as a table of records; prepare the data set again") from error
        if self._table.schema != SCHEMA:
            raise DataError(f"{path} has other columns than this version writes; prepare the data set again")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "source": self.source, "pictures": self.pictures, "version": self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        return self._example({name: self._table.column(name)[place].as_py() for name in _READ})

    def __iter__(self) -> Iterator[Example]:
        for batch in self._table.select(_READ).to_batches():
            yield from map(self._example, batch.to_pylist())

    def numbers(self, name: str) -> NDArray[np.int64]:
        """A column of numbers."""
        return np.asarray(self._table.column(name).to_numpy()).astype(np.int64)

    def texts(self, name: str, rows: NDArray[np.int64]) -> list[str]:
        """Some rows of a column of texts."""
        return list(pyarrow.compute.take(self._table.column(name), pyarrow.array(rows)).to_pylist())

    def coded(self, name: str) -> tuple[list[str], NDArray[np.int64]]:
        """The distinct texts of a column, and which of them stands in each row."""
        column = self._table.column(name).combine_chunks().dictionary_encode()
        return column.dictionary.to_pylist(), column.indices.to_numpy(zero_copy_only=False).astype(np.int64)

    def _example(self, row: Mapping[str, Any]) -> Example:
        record = json.loads(row["record"])
        return Example(
            id=row["id"],
            patient=row["patient"],
            study=row["study"],
            split=SPLITS[row["split"]],
            topic=row["topic"],
            source=self.source,
            turns=tuple(
                Turn(speaker, text, tuple(blanks), rejected) for speaker, text, blanks, rejected in record["turns"]
            ),
            images=tuple(ShardImage(self.pictures, self.version, place, file) for place, file in record["images"]),
            options=tuple(record["options"]),
            attributes=record["attributes"],
            licence=record["licence"],
        )


def replace_splits(path: Path, places: Mapping[str, Split]) -> None:
    """Write a table again with another split for each patient."""
    partial = path.with_name(f".{path.name}.part")
    column = SCHEMA.get_field_index("split")
    with pyarrow.memory_map(str(path)) as file, ipc.new_file(str(partial), SCHEMA) as written:
        reader = ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            splits = [SPLITS.index(places[patient]) for patient in batch.column("patient").to_pylist()]
            written.write_batch(batch.set_column(column, SCHEMA.field(column), pyarrow.array(splits, pyarrow.int8())))
    partial.replace(path)


def _characters(example: Example) -> int:
    return sum(len(turn.text) for turn in example.turns)


_READ = ["id", "patient", "study", "split", "topic", "record"]
