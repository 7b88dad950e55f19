"""How many tokens conversations have, counted once for all runs where there are many of them."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmmed.data.collection import Collection
from mmmed.errors import OutputError
from mmmed.models.weights import cache_folder
from mmmed.processing.processor import Processor
from mmmed.records import Example

WORTH_KEEPING = 10_000
"""Conversations from which on counts are kept on disk."""

_AT_ONCE = 1000


class TokenCounts(NamedTuple):
    """Of conversations, in order.

    Args:
        tokens: Of each, with those of its images.
        images: Of each.
    """

    tokens: NDArray[np.int64]
    images: NDArray[np.int64]


def token_counts(examples: Sequence[Example], processor: Processor) -> TokenCounts:
    """Count the tokens of conversations, a few at a time; of many, what was counted before is read again.

    Raises:
        OutputError: The counts cannot be kept.
    """
    if not isinstance(examples, Collection) or len(examples) < WORTH_KEEPING:
        return _counted(examples, len(examples), processor)
    key = hashlib.sha256(f"{examples.digest()} {processor.digest()}".encode()).hexdigest()
    path = cache_folder() / "token_counts" / f"{key}.npy"
    if not path.is_file():
        counts = _counted(examples, len(examples), processor)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.save(file, np.stack(counts))
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise OutputError(
                f"cannot keep token counts in {path.parent}: {error.strerror}; make room there"
            ) from error
    tokens, images = np.load(path)
    return TokenCounts(tokens, images)


def _counted(examples: Iterable[Example], count: int, processor: Processor) -> TokenCounts:
    counts = np.empty((2, count), dtype=np.int64)
    done = 0
    with tqdm(total=count, desc="tokens", unit="example", disable=None, leave=False) as progress:
        for some in _batched(examples):
            counts[0, done : done + len(some)] = processor.lengths(some)
            counts[1, done : done + len(some)] = [len(one.images) for one in some]
            done += len(some)
            progress.update(len(some))
    return TokenCounts(*counts)


def _batched(examples: Iterable[Example]) -> Iterator[list[Example]]:
    each = iter(examples)
    while some := list(islice(each, _AT_ONCE)):
        yield some
