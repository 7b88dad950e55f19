"""What glibc does with freed memory."""

import ctypes
import sys

BLOCK, AT_MOST = 1_000_000_000, 2_000_000_000
"""Bytes, as the commands of mmmed have it."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of these settings in malloc.h."""


def keep_freed_memory(*, block: int = BLOCK, at_most: int = AT_MOST) -> None:
    """Keep what is freed for what is allocated next, instead of giving it back to the system; nothing without glibc.

    Args:
        block: Bytes from which on a block is a mapping of its own, given back when it is freed.
        at_most: Bytes that are kept at the end of the heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, block)
        mallopt(_TRIM_THRESHOLD, at_most)
