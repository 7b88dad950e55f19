"""Where uploads are: a folder that nobody else may read, in which every one has a random name, an owner and an end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mmmed.errors import ConfigError, ImageError, OutputError
from mmmed.processing.dicom.windows import Window
from mmmed.serving.refusals import Full, Gone
from mmmed.serving.uploads.reader import Reader
from mmmed.serving.uploads.reading import HEAD, kind_of
from mmmed.serving.uploads.stored import StoredFrame

CODE = re.compile(r"[\w-]{24}")
_BYTES = 18
EXPIRING_S = 30.0
"""Seconds between two looks for uploads whose time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much is kept, and how long.

    Args:
        bytes: Of one upload, as it was sent.
        uploads: Of one owner.
        total_bytes: Of all uploads together, with what was made of them.
        seconds: That an upload is kept after it was last looked at.
    """

    bytes: int = 64 * 2**20
    uploads: int = 24
    total_bytes: int = 8 * 2**30
    seconds: float = 3600.0


@dataclass(slots=True, kw_only=True)
class Upload:
    """One picture, or file of frames.

    Args:
        code: Its random name.
        owner: Who sent it, and alone may see it.
        folder: Where it is.
        about: What a page may know of it; see `reading.read_upload`.
        size: Bytes on disk.
        digest: SHA-256 of the file as it was sent.
        used: When it was last looked at.
    """

    code: str
    owner: str
    folder: Path
    about: dict[str, Any]
    size: int
    digest: str
    used: float = field(default_factory=time.monotonic)

    @property
    def original(self) -> Path:
        """The file as it was sent. It may hold identifiers, and may be anything: look inside with care."""
        return self.folder / "sent"

    def identity(self) -> dict[str, str]:
        """Identifiers of a DICOM file, by keyword, for who signs a report about it; empty for other pictures."""
        path = self.folder / "identity.json"
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def header(self) -> bytes:
        """The DICOM object without its pixels, as it was sent; empty for other pictures."""
        path = self.folder / "header.dcm"
        return path.read_bytes() if path.is_file() else b""

    def frame(self, place: int = 0, window: Window | None = None) -> StoredFrame:
        """One of its frames. Raises `ImageError` where there is none of this number."""
        if not 0 <= place < len(self.about["frames"]):
            raise ImageError(f"there is no frame {place}; {len(self.about['frames'])} are kept of this picture")
        return StoredFrame(
            folder=self.folder,
            place=place,
            window=window if "range" in self.about else None,
            is_inverted=bool(self.about.get("is_inverted", False)),
        )


class Uploads:
    """All uploads of a server.

    Args:
        folder: Where they are kept; nothing else may be in it, and it is emptied at the start.
        room: How much is kept.
        reader: Looks inside.
        clock: Seconds that only go on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        room: Room | None = None,
        reader: Reader | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.room = room or Room()
        self._reader = reader or Reader()
        self._clock = clock
        self._kept: dict[str, Upload] = {}
        self._coming: Counter[str] = Counter()

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[Uploads]:
        """Keeps uploads while it is open; whatever a server that was killed has left behind is removed first.

        Raises:
            ConfigError: Another server keeps its uploads there, or something else is in the folder.
            OutputError: The folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            lock = FileLock(self.folder / ".lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise ConfigError(f"another server keeps its uploads in {self.folder}; name another --uploads") from None
        except OSError as error:
            raise OutputError(
                f"cannot keep uploads in {self.folder}: {error.strerror}; name another --uploads"
            ) from error
        with lock:
            self._empty()
            async with self._reader.reading(), _repeated(self.expire, every_s=EXPIRING_S):
                try:
                    yield self
                finally:
                    self._empty()

    async def add(self, sent: AsyncIterator[bytes], *, owner: str) -> Upload:
        """Take in one picture: whole, or not at all.

        Raises:
            ImageError: It is no picture that is taken, too large, or cannot be read.
            Full: There is no room.
        """
        self._check_room(owner)
        code = secrets.token_urlsafe(_BYTES)
        coming = self.folder / f"{code}.part"
        self._coming[owner] += 1
        try:
            coming.mkdir(mode=0o700)
            digest = await self._receive(sent, coming / "sent")
            about = await self._reader.read(coming / "sent", coming)
            size = sum(path.stat().st_size for path in coming.iterdir())
            self._check_room(owner, size=size)
            folder = coming.with_suffix("")
            coming.rename(folder)
        finally:
            self._coming[owner] -= 1
            self._coming += Counter()
            shutil.rmtree(coming, ignore_errors=True)
        upload = Upload(
            code=code, owner=owner, folder=folder, about=about, size=size, digest=digest, used=self._clock()
        )
        self._kept[code] = upload
        return upload

    def get(self, code: str, *, owner: str) -> Upload:
        """An upload by its name. Raises `Gone` where there is none, or it is another's: nobody can tell which."""
        upload = self._kept.get(code)
        if upload is None or not secrets.compare_digest(upload.owner.encode(), owner.encode()):
            raise Gone("there is no such picture any more; send it again")
        upload.used = self._clock()
        return upload

    def remove(self, code: str, *, owner: str) -> None:
        """Remove an upload. Raises `Gone`."""
        self._remove(self.get(code, owner=owner))

    def expire(self) -> None:
        """Remove what nobody has looked at for long."""
        now = self._clock()
        for upload in [one for one in self._kept.values() if now - one.used > self.room.seconds]:
            self._remove(upload)

    def _remove(self, upload: Upload) -> None:
        del self._kept[upload.code]
        shutil.rmtree(upload.folder, ignore_errors=True)

    def _check_room(self, owner: str, *, size: int = 0) -> None:
        own = self._coming[owner] + sum(upload.owner == owner for upload in self._kept.values())
        # The one that is coming counts itself.
        if own > self.room.uploads or (not size and own >= self.room.uploads):
            raise Full(f"you have {own} pictures here; remove some first")
        if size + sum(upload.size for upload in self._kept.values()) > self.room.total_bytes:
            raise Full("the server has no room for more pictures now; try again later")

    async def _receive(self, sent: AsyncIterator[bytes], path: Path) -> str:
        head, size, hashed = b"", 0, hashlib.sha256()
        # Not to be read by others, and not to be run by anyone.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            async for chunk in sent:
                size += len(chunk)
                if size > self.room.bytes:
                    raise ImageError(f"the picture is larger than {self.room.bytes // 2**20} MB; make it smaller")
                if len(head) < HEAD:
                    head += chunk[: HEAD - len(head)]
                    if len(head) >= HEAD and kind_of(head) is None:
                        raise ImageError("this is no PNG, JPEG or DICOM file; convert it first")
                hashed.update(chunk)
                file.write(chunk)
        if kind_of(head) is None:
            raise ImageError("this is no PNG, JPEG or DICOM file; convert it first")
        return hashed.hexdigest()

    def _empty(self) -> None:
        self._kept.clear()
        for path in self.folder.iterdir():
            if path.name == ".lock":
                continue
            if not path.is_dir() or not CODE.fullmatch(path.name.removesuffix(".part")):
                raise ConfigError(f"{path} is no upload; name a folder of its own as --uploads, which is emptied")
            shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def _repeated(work: Callable[[], None], *, every_s: float) -> AsyncIterator[None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(every_s)
            work()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
