"""Has files read by `reading`'s process, and ends the process when it takes too long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mmmed.errors import ImageError

SECONDS = 30.0
"""Longest time that one file may take."""
STARTING_S = 120.0
"""Longest time that a process may take to begin, on a machine that has other things to do."""
# A process that reads strangers' files is told nothing that is secret.
_KNOWN = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LANG", "LC_ALL", "HOME", "TMPDIR")
_DECODERS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class Reader:
    """Some processes that read, each one file at a time.

    Args:
        processes: How many.
        seconds: Longest time that one file may take.
    """

    def __init__(self, processes: int = 2, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._free: asyncio.Queue[_Process] = asyncio.Queue()
        self._all = [_Process() for _ in range(processes)]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reader]:
        """Reads while it is open."""
        for process in self._all:
            self._free.put_nowait(process)
        try:
            yield self
        finally:
            for process in self._all:
                await process.end()

    async def read(self, file: Path, folder: Path) -> dict[str, Any]:
        """Read one file into a folder; see `reading.read_upload`.

        Raises:
            ImageError: It cannot be read, or reading it takes too much time or memory.
        """
        process = await self._free.get()
        try:
            told = await process.ask({"file": str(file), "folder": str(folder)}, seconds=self._seconds)
        finally:
            self._free.put_nowait(process)
        if "fault" in told:
            raise ImageError(str(told["fault"]))
        read: dict[str, Any] = told["read"]
        return read


class _Process:
    def __init__(self) -> None:
        self._running: asyncio.subprocess.Process | None = None
        self._has_answered = False

    async def ask(self, question: dict[str, str], *, seconds: float) -> dict[str, Any]:
        running = await self._started()
        assert running.stdin and running.stdout, "pipes"
        try:
            running.stdin.write(json.dumps(question).encode() + b"\n")
            await running.stdin.drain()
            patience = seconds if self._has_answered else seconds + STARTING_S
            line = await asyncio.wait_for(running.stdout.readline(), patience)
            told: dict[str, Any] = json.loads(line)
        except TimeoutError:
            await self.end()
            raise ImageError(f"the picture takes longer than {seconds:g} s to read; send another") from None
        except (OSError, ValueError) as error:
            await self.end()
            raise ImageError("the picture takes more memory than reading may, or breaks its decoder") from error
        except asyncio.CancelledError:
            # Its answer would be taken for that to the next file.
            await self.end()
            raise
        self._has_answered = True
        return told

    async def _started(self) -> asyncio.subprocess.Process:
        if self._running is None or self._running.returncode is not None:
            self._has_answered = False
            self._running = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "mmmed.serving.uploads.reading",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KNOWN if name in os.environ} | _DECODERS,
                limit=2**20,
            )
        return self._running

    async def end(self) -> None:
        if self._running is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._running.kill()
        await self._running.wait()
        self._running = None
