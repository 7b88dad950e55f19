"""Several jobs of a model at once on a CPU, each on one thread of its own.

Threads that compute one small operation together wait for each other after each of them, and where waking up is slow
they are slower together than one of them alone. Jobs that have nothing to do with each other never wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import torch

Job = TypeVar("Job")
Done = TypeVar("Done")


def side_by_side(work: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Done]:
    """What comes of each job, in their order; as many are under way as torch has threads, and no more are held.

    Args:
        work: Computes one of them, without gradients.
        jobs: They are taken from where they come only when there is room.
    """
    threads = torch.get_num_threads()
    waiting = iter(jobs)
    if threads == 1:
        yield from map(work, waiting)
        return
    with _pool(threads) as pool:
        while batch := list(islice(waiting, threads)):
            if len(batch) == 1:  # nobody is beside it
                yield work(batch[0])
            else:
                yield from pool.map(torch.inference_mode()(work), batch)


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute alone."""
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # what threads of torch that begin from here on have
