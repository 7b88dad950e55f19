"""Who saw what, and when: a file that is only added to, each line with a digest of all before it.

Pictures and answers are named by random codes and digests of their content, never by what is in them.
"""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from mmmed.errors import DataError, OutputError
from mmmed.serving.desk.chain import START, chain_key, link


class SeenLog:
    """The log of a server.

    Args:
        path: The file; one of an earlier run is gone on with.

    Raises:
        OutputError: It cannot be written to.
        DataError: Its last line does not fit those before it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = chain_key()
        self._writing = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise OutputError(f"cannot write the log {path}: {error.strerror}; name another --log") from error
        self._digest = verified(path)

    def note(self, who: str, did: str, what: str, **more: str | int) -> None:
        """Add a line; it is on the disk when this returns. What cannot be noted may not be seen.

        Raises:
            OutputError: The line cannot be written.
        """
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry: dict[str, object] = {"at": moment, "who": who, "did": did, "what": what, **more}
        with self._writing:
            digest = link(self._digest, entry, key=self._key)
            line = json.dumps(entry | {"digest": digest}, ensure_ascii=True) + "\n"
            try:
                os.write(self._file, line.encode())
                os.fdatasync(self._file)
            except OSError as error:
                raise OutputError(f"cannot write the log {self.path}: {error.strerror}; free space") from error
            self._digest = digest


def verified(path: Path) -> str:
    """The digest of the last line, if every line fits those before it.

    A last line that was not written to its end, as by a server that was killed, is cut off.

    Raises:
        DataError: A line was changed, taken out or put in, or the key is another one.
    """
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    digest, key = START, chain_key()
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            entry = json.loads(line)
            said = entry.pop("digest")
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(f"{path}:{number} is no line of the log; it was tampered with") from error
        digest = link(digest, entry, key=key)
        if digest != said:
            raise DataError(
                f"{path}:{number} does not fit those before it; it was tampered with, or the key is another"
            )
    return digest
