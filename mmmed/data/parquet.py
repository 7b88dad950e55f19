"""Parquet files as hubs publish data sets, with their pictures inside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import pyarrow
from PIL import Image
from pyarrow import parquet

from mmmed.data.entries import Entry
from mmmed.data.tabular import require_columns
from mmmed.errors import DataError, ImageError
from mmmed.processing.image import decode


@dataclass(frozen=True, slots=True)
class ParquetImage:
    """A picture in a cell of a parquet file, read and decoded when asked for.

    Args:
        path: The file.
        column: Holds encoded pictures, or objects with the field `bytes`, as the `datasets` library writes them.
        group: Row group.
        row: Place in the row group.
    """

    path: Path
    column: str
    group: int
    row: int

    @property
    def name(self) -> str:
        """File and place, which stand for the content within a run."""
        return f"{self.path}:{self.column}[{self.group}, {self.row}]"

    def encoded(self) -> bytes:
        """The picture as stored. Raises `ImageError` where there is none."""
        try:
            cells = _cells(self.path, self.column, self.group)
        except (OSError, pyarrow.ArrowException) as error:
            raise ImageError(
                f"image {self.name} cannot be read ({_first_line(error)}); fetch the file again"
            ) from error
        picture = picture_bytes(cells[self.row].as_py()) if self.row < len(cells) else b""
        if not picture:
            raise ImageError(f"image {self.name} is empty; remove its record")
        return picture

    def content(self) -> bytes:
        """The picture as stored. Raises `ImageError` where there is none."""
        return self.encoded()

    def open(self) -> Image.Image:
        """Decode to 8 bit, "L" or "RGB". Raises `ImageError` where it is missing or damaged."""
        return decode(BytesIO(self.encoded()), name=self.name)


def read_parquet(paths: Sequence[Path], *, columns: Sequence[str]) -> Iterator[Entry]:
    """Read the named columns of one table in several files, row group by row group; others are not touched.

    Each record has `_path`, `_group` and `_row` beside its columns, to find a picture again.

    Raises:
        DataError: A file is no parquet file, or lacks a column.
    """
    for path in paths:
        try:
            with parquet.ParquetFile(path) as file:
                require_columns(path, found=file.schema_arrow.names, columns=columns)
                for group in range(file.num_row_groups):
                    records = file.read_row_group(group, columns=list(columns)).to_pylist()
                    for row, record in enumerate(records):
                        yield Entry(
                            f"{path.name}[{group}, {row}]", record | {"_path": str(path), "_group": group, "_row": row}
                        )
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{path} cannot be read as parquet ({_first_line(error)}); fetch it again") from error


def picture_bytes(cell: object) -> bytes:
    """The encoded picture of a cell, or nothing where it holds none."""
    inside = cell.get("bytes") if isinstance(cell, dict) else cell
    return inside if isinstance(inside, bytes) else b""


@lru_cache(maxsize=4)
def _cells(path: Path, column: str, group: int) -> pyarrow.ChunkedArray:
    # Row groups of pictures hold about a hundred rows; a few are kept, since neighbours are asked for together.
    with parquet.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column]).column(0)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
