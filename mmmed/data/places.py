"""Where prepared data lie: a folder of this machine, or one of an object store whose files are fetched when needed."""

import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mmmed.errors import ConfigError, DataError
from mmmed.models.weights import cache_folder


@dataclass(frozen=True)
class Place:
    """A folder, or the URL of one that fsspec reads (s3://, gs://, https://, memory://).

    Args:
        root: The folder or URL.
        kept_in: Where the files of a URL are kept once they are fetched; of a folder nothing is copied.
    """

    root: str
    kept_in: Path | None = None

    @property
    def is_remote(self) -> bool:
        """Whether files have to be fetched."""
        return "://" in self.root

    def inside(self, name: str) -> "Place":
        """A folder in it."""
        return Place(f"{self.root.rstrip('/')}/{name}", self.kept_in / name if self.kept_in else None)

    def read(self, name: str) -> bytes:
        """The whole of a small file, as it is now. Raises `DataError` where it is not there."""
        try:
            if not self.is_remote:
                return Path(self.root, name).read_bytes()
            return self._fetch(name)
        except OSError as error:
            raise self._missing(name, error) from error

    def file(self, name: str) -> Path:
        """A file as one of this machine; that of a URL is fetched once, whole or not at all.

        Raises:
            DataError: It is not there, or cannot be kept.
        """
        if not self.is_remote:
            return Path(self.root, name)
        kept = (self.kept_in or cache_folder() / "shards") / name
        if kept.is_file():
            return kept
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            # Workers that need the same file wait for the one that fetches it.
            with FileLock(f"{kept}.lock"):
                if not kept.is_file():
                    partial = kept.with_name(f".{kept.name}.{os.getpid()}.part")
                    try:
                        partial.write_bytes(self._fetch(name))
                        partial.replace(kept)
                    finally:
                        partial.unlink(missing_ok=True)
        except OSError as error:
            raise self._missing(name, error) from error
        return kept

    def _fetch(self, name: str) -> bytes:
        # It takes half a second to import, which folders need not wait for.
        import fsspec

        try:
            with fsspec.open(f"{self.root.rstrip('/')}/{name}", "rb") as file:
                content: bytes = file.read()
                return content
        except (ImportError, ValueError) as error:
            raise ConfigError(f"{self.root} cannot be read: {' '.join(str(error).split())}") from error

    def _missing(self, name: str, error: OSError) -> DataError:
        reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
        return DataError(
            f"{self.root.rstrip('/')}/{name} cannot be read ({reason}); prepare the data set again with "
            "`mmmed data prepare`"
        )
