"""Pictures in a few large files instead of many small ones, read one by one in any order.

The files are litdata's, one encoded picture an entry, so that its `StreamingDataset` reads them too. Training reads
them here instead: it asks for pictures in the order of `BatchOrder`, and litdata's reader decodes windows of
neighbours and may be used by one thread alone.

A file holds the number of its entries n and n + 1 offsets, then the entries: the length of a picture and its bytes. All
numbers are little-endian, 32 bits, without a sign.
"""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmmed.data.places import Place
from mmmed.errors import DataError, ImageError

INDEX = "index.json"

CHUNK_BYTES = 64 * 2**20
"""About how large a file becomes: few files for a million pictures, and each soon fetched."""

_NUMBER = np.dtype("<u4")
# Little is gained by more, and it is paid for each picture.
_COMPRESSION = 1
_KEPT = 8


@dataclass(frozen=True, slots=True)
class ShardImage:
    """A picture of a prepared data set, read and decoded when asked for.

    Args:
        pictures: Folder of the shards.
        version: Changes with the data set, so that no reader outlives it.
        index: Its place among the pictures.
        file: Name of the file it was made from.
    """

    pictures: Place
    version: str
    index: int
    file: str

    @property
    def name(self) -> str:
        """Folder and place, which stand for the content within a run; ends in the name of the file."""
        return f"{self.pictures.root}/{self.index}/{self.file}"

    def content(self) -> bytes:
        """The encoded picture. Raises `ImageError` where the shard is damaged or gone."""
        return reader(self.pictures, self.version).read(self.index)

    def open(self) -> Image.Image:
        """Decode to "L" or "RGB". Raises `ImageError` where the shard is damaged or gone."""
        encoded = self.content()
        try:
            with Image.open(io.BytesIO(encoded), formats=("PNG",)) as picture:
                picture.load()
                return picture.copy()
        except (OSError, SyntaxError, ValueError) as error:
            raise ImageError(f"image {self.name} is damaged; prepare the data set again") from error


class PictureReader:
    """Reads single pictures out of shards. It keeps no file open, so that threads and processes may share it.

    Args:
        place: Folder of the shards.

    Raises:
        DataError: There are none.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        try:
            chunks = json.loads(place.file(INDEX).read_bytes())["chunks"]
            self._files = [str(chunk["filename"]) for chunk in chunks]
            self._ends = np.cumsum([int(chunk["chunk_size"]) for chunk in chunks])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{place.root}/{INDEX} is no index of shards; prepare the data set again") from error
        self._offsets: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, index: int) -> bytes:
        """The encoded picture at a place. Raises `ImageError` where its shard is damaged or gone."""
        chunk = int(np.searchsorted(self._ends, index, side="right"))
        if not 0 <= index < len(self):
            raise ImageError(f"{self._place.root} has {len(self)} pictures, none at {index}; prepare it again")
        within = index - (int(self._ends[chunk - 1]) if chunk else 0)
        try:
            with self._place.file(self._files[chunk]).open("rb") as file:
                start, end = self._bounds(chunk, within, file)
                file.seek(start)
                entry = file.read(end - start)
        except (OSError, DataError, ValueError, IndexError) as error:
            raise ImageError(
                f"{self._place.root}/{self._files[chunk]} cannot be read ({error}); prepare the data set again"
            ) from error
        if len(entry) != end - start or len(entry) < _NUMBER.itemsize:
            raise ImageError(f"{self._place.root}/{self._files[chunk]} is cut short; prepare the data set again")
        return entry[_NUMBER.itemsize :]

    def _bounds(self, chunk: int, within: int, file: io.BufferedReader) -> tuple[int, int]:
        if chunk not in self._offsets:
            (count,) = np.frombuffer(file.read(_NUMBER.itemsize), dtype=_NUMBER)
            table = file.read((int(count) + 1) * _NUMBER.itemsize)
            self._offsets[chunk] = np.frombuffer(table, dtype=_NUMBER).astype(np.int64)
        offsets = self._offsets[chunk]
        return int(offsets[within]), int(offsets[within + 1])


@lru_cache(maxsize=_KEPT)
def reader(place: Place, version: str) -> PictureReader:
    """The reader of a folder, one for the process and the version."""
    return PictureReader(place)


class PictureWriter:
    """Writes encoded pictures into shards, in order.

    Args:
        folder: An empty or absent folder.
        chunk_bytes: About how large a file becomes.
    """

    def __init__(self, folder: Path, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        # It takes seconds to import, and only those who prepare data need it.
        from litdata.streaming.writer import BinaryWriter

        self._writer = BinaryWriter(str(folder), chunk_bytes=chunk_bytes)
        self.count = 0

    def add(self, encoded: bytes) -> int:
        """Write one picture and say which place it has."""
        with _quiet():
            self._writer[self.count] = encoded
        self.count += 1
        return self.count - 1

    def close(self) -> None:
        """Write what is left, and the index."""
        if self.count:
            with _quiet():
                self._writer.done()
            self._writer.merge(1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A picture that fills a file by itself is no fault."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was larger than the target chunk size.*")
        yield


def encode(picture: Image.Image, *, longest_side: int | None = None) -> bytes:
    """Encode without loss as PNG; pictures whose longer side is above `longest_side` pixels are shrunk to it before."""
    if longest_side is not None and max(picture.size) > longest_side:
        scale = longest_side / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()
