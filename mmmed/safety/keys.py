"""Short names of what an answer depends on."""

import hashlib
import json


def key_of(*parts: str) -> str:
    """Sixteen hexadecimal digits that differ when any part does."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
