"""The secret that surrogates are made with: the same on a machine from run to run, and in nobody's repository."""

import os
import secrets
from pathlib import Path

from mmmed.errors import ConfigError, OutputError
from mmmed.models.weights import cache_folder

VARIABLE = "MMMED_PRIVACY_KEY"
_SHORTEST = 16


def key(path: str | None = None) -> bytes:
    """Read the secret from a file, the environment, or the file that was made for this user at the first run.

    Args:
        path: The file; None takes ``MMMED_PRIVACY_KEY`` or else ``privacy.key`` in the cache folder.

    Raises:
        ConfigError: The named file is missing, or the secret is shorter than 16 bytes.
        OutputError: The cache folder cannot be written to.
    """
    if path is not None:
        return _read(Path(path).expanduser())
    if os.environ.get(VARIABLE):
        return _checked(os.environ[VARIABLE].encode(), origin=VARIABLE)
    own = cache_folder() / "privacy.key"
    if not own.exists():
        _make(own)
    return _read(own)


def _read(path: Path) -> bytes:
    try:
        return _checked(path.read_bytes().strip(), origin=str(path))
    except OSError as error:
        raise ConfigError(
            f"privacy key {path} cannot be read ({error.strerror}); name a file with the secret"
        ) from error


def _checked(secret: bytes, *, origin: str) -> bytes:
    if len(secret) < _SHORTEST:
        raise ConfigError(f"privacy key from {origin} has {len(secret)} bytes; expected {_SHORTEST} or more")
    return secret


def _make(path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(partial, path)  # unlike a rename, this leaves a key alone that another process has just made
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot keep a privacy key in {path.parent} ({error.strerror}); set {VARIABLE} or MMMED_CACHE"
        ) from error
