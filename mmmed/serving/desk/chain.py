"""The chain that makes a history tamper-evident: each entry's digest covers the entry and the digest before it.

Who can write to the whole database can also compute a whole new chain. Against that stand a key, kept outside of the
database (`MMMED_CHAIN_KEY`; digests are then HMACs, which cannot be made without it), and the head of the chain, noted
elsewhere from time to time.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping

from mmmed.errors import ConfigError

KEY = "MMMED_CHAIN_KEY"
SHORTEST_KEY = 24
START = "0" * 64
"""What stands before the first entry."""


def chain_key() -> bytes:
    """The key of the environment, or none.

    Raises:
        ConfigError: It is too short to be one.
    """
    key = os.environ.get(KEY, "")
    if key and len(key) < SHORTEST_KEY:
        raise ConfigError(
            f"{KEY} has {len(key)} characters; expected at least {SHORTEST_KEY}, such as of `openssl rand -hex 24`"
        )
    return key.encode()


def link(previous: str, entry: Mapping[str, object], *, key: bytes = b"") -> str:
    """The digest of an entry that follows another."""
    content = json.dumps(entry, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    message = f"{previous}\n{content}".encode()
    return hmac.new(key, message, "sha256").hexdigest() if key else hashlib.sha256(message).hexdigest()
