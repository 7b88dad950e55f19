"""Features of pictures on disk, found by the content of the picture: a few large files that are mapped into memory.

Every process writes files of its own, so that any number of workers and ranks may write and read at the same time. A
file `<name>.features` holds features one after another, all of one size; `<name>.keys` has an entry for each, written
after it: 16 bytes of key and 8 of checksum. What has no entry does not exist, so that a stop at any moment leaves
nothing that could be taken for features, and an entry whose features do not match its checksum is passed over.
"""

import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from mmmed.errors import OutputError

# Shape letters: B pictures, N tokens, W feature width.

FILE_BYTES = 2**30
"""About how large a file becomes."""

_GIB = 2**30
_KEY, _CHECKSUM = 16, 8
_ENTRY = _KEY + _CHECKSUM


class _Where(NamedTuple):
    """File and place of features, and their checksum, which is empty once they were seen to match."""

    name: str
    place: int
    checksum: bytes


class FeatureStore:
    """Keeps features of one shape in float32. It is picklable, and a copy sees what the others write.

    Args:
        folder: Of one encoder in one precision.
        tokens: Of a picture.
        width: Of a token.
        file_bytes: About how large a file becomes.
    """

    def __init__(self, folder: Path, *, tokens: int, width: int, file_bytes: int = FILE_BYTES) -> None:
        self.folder, self.tokens, self.width, self.file_bytes = folder, tokens, width, file_bytes
        self._known: dict[bytes, _Where] = {}
        self._entries: dict[str, int] = {}
        self._mapped: dict[str, NDArray[np.uint8]] = {}
        self._own, self._own_count, self._process = "", 0, 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("folder", "tokens", "width", "file_bytes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def bytes_each(self) -> int:
        """What the features of a picture take."""
        return self.tokens * self.width * torch.float32.itemsize

    def bytes_kept(self) -> int:
        """What has been written so far."""
        return sum(path.stat().st_size for path in self.folder.glob("*.features"))

    def estimate(self, pictures: int) -> str:
        """Say what so many pictures will take here, before the first is written.

        Raises:
            OutputError: It is more than there is room for.
        """
        needed, kept = pictures * self.bytes_each, self.bytes_kept()
        place = next(one for one in (self.folder, *self.folder.absolute().parents) if one.is_dir())
        free = shutil.disk_usage(place).free
        told = (
            f"features of about {pictures} pictures take {needed / _GIB:.2f} GiB in {self.folder}, where "
            f"{kept / _GIB:.2f} GiB are kept and {free / _GIB:.1f} GiB are free"
        )
        if needed - kept > free:
            raise OutputError(f"{told}; give FrozenFeatures a folder with room, or use its encoder without it")
        return told

    def find(self, keys: Sequence[str]) -> list[Tensor | None]:
        """The features (N, W) of each key, mapped from disk and not to be written to; None where none are kept."""
        if any(bytes.fromhex(key) not in self._known for key in keys):
            self._look_again()
        return [self._read(bytes.fromhex(key)) for key in keys]

    def keep(self, keys: Sequence[str], features_BNW: Tensor) -> None:
        """Write features under their keys. Raises `OutputError` where there is no room."""
        values = features_BNW.float().cpu().contiguous().numpy()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for key, value in zip(keys, values, strict=True):
                self._append(bytes.fromhex(key), value.tobytes())
        except OSError as error:
            self._own = ""  # what was half written stays behind in a file that is not written to again
            raise OutputError(
                f"cannot keep image features in {self.folder}: {error.strerror}; give FrozenFeatures a folder with room"
            ) from error

    def _append(self, key: bytes, value: bytes) -> None:
        full = self._own_count and (self._own_count + 1) * self.bytes_each > self.file_bytes
        if not self._own or full or self._process != os.getpid():
            self._own, self._own_count, self._process = uuid.uuid4().hex, 0, os.getpid()
        with self._path(self._own, "features").open("ab") as file:
            file.write(value)
        with self._path(self._own, "keys").open("ab") as file:
            file.write(key + _checksum(value))
        self._known[key] = _Where(self._own, self._own_count, b"")
        self._own_count += 1
        self._entries[self._own] = self._own_count

    def _look_again(self) -> None:
        """Take up the entries that were written since."""
        if not self.folder.is_dir():
            return
        with os.scandir(self.folder) as files:
            for one in files:
                name, _, kind = one.name.partition(".")
                seen = self._entries.get(name, 0)
                count = one.stat().st_size // _ENTRY if kind == "keys" else 0
                if count > seen:
                    self._known.update(self._new_entries(name, seen, count))
                    self._entries[name] = count

    def _new_entries(self, name: str, first: int, after: int) -> Iterable[tuple[bytes, _Where]]:
        with self._path(name, "keys").open("rb") as file:
            file.seek(first * _ENTRY)
            written = file.read((after - first) * _ENTRY)
        for place in range(first, after):
            entry = written[(place - first) * _ENTRY :][:_ENTRY]
            if entry[:_KEY] not in self._known:
                yield entry[:_KEY], _Where(name, place, entry[_KEY:])

    def _read(self, key: bytes) -> Tensor | None:
        where = self._known.get(key)
        if where is None:
            return None
        value = self._value(where)
        if value is None or (where.checksum and _checksum(value) != where.checksum):
            del self._known[key]
            return None
        self._known[key] = where._replace(checksum=b"")
        return torch.from_numpy(value).view(torch.float32).view(self.tokens, self.width)

    def _value(self, where: _Where) -> NDArray[np.uint8] | None:
        """The bytes of features, None where their file is gone or was cut short."""
        start, end = where.place * self.bytes_each, (where.place + 1) * self.bytes_each
        mapped = self._mapped.get(where.name)
        if mapped is None or len(mapped) < end:
            path = self._path(where.name, "features")
            if not path.is_file() or path.stat().st_size < end:
                return None
            # Mapped for private writing, which nobody does: torch warns of what it could not write to.
            mapped = self._mapped[where.name] = np.memmap(path, dtype=np.uint8, mode="c")
        return mapped[start:end]

    def _path(self, name: str, kind: str) -> Path:
        return self.folder / f"{name}.{kind}"


def _checksum(value: bytes | NDArray[np.uint8]) -> bytes:
    return xxhash.xxh3_64(value if isinstance(value, bytes) else value.data).digest()
