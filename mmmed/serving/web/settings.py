"""Where the server listens and how much it takes; secrets come from the environment alone."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from mmmed.errors import ConfigError

TOKEN = "MMMED_TOKEN"
"""Environment variable of the secret that programs send as `Authorization: Bearer …`."""
SHORTEST_TOKEN = 24
"""Characters; a random one of this length is not guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server is set up.

    Args:
        host: Address to listen on; anything but the loopback needs accounts or a token.
        port: Port to listen on; 0 takes a free one.
        names: Host names that the server answers to beside its address, such as that of a proxy in front of it.
        upload_bytes: Largest upload.
        request_bytes: Largest request of another kind.
        asks_per_minute: Questions of one visitor, in the long run.
        asks_at_once: Questions of one visitor in a burst.
        uploads_per_minute: The same for pictures.
        uploads_at_once: The same for pictures.

    Raises:
        ConfigError: A number is not above 0.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    names: tuple[str, ...] = ()
    upload_bytes: int = 64 * 2**20
    request_bytes: int = 16 * 2**20
    asks_per_minute: float = 120.0
    asks_at_once: int = 64
    uploads_per_minute: float = 60.0
    uploads_at_once: int = 32

    def __post_init__(self) -> None:
        limits = (
            "upload_bytes",
            "request_bytes",
            "asks_per_minute",
            "asks_at_once",
            "uploads_per_minute",
            "uploads_at_once",
        )
        for name in limits:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a number above 0")
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"port is {self.port}; expected 0 to 65535")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> frozenset[str]:
        """The names by which a request may call the server; others are not for it (DNS rebinding)."""
        own = {"localhost", "127.0.0.1", "[::1]"} if self.is_loopback else {self.host}
        return frozenset(name.lower() for name in {*own, *self.names})


def token() -> str | None:
    """The secret of programs, if there is one.

    Raises:
        ConfigError: It is too short to be one.
    """
    given = os.environ.get(TOKEN)
    if given and len(given) < SHORTEST_TOKEN:
        raise ConfigError(
            f"{TOKEN} has {len(given)} characters; expected {SHORTEST_TOKEN} or more, as of `openssl rand -hex 24`"
        )
    return given or None
