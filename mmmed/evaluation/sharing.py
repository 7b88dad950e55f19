"""Several processes that work together: each does its share, and one of them puts together what was done."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from mmmed.errors import ConfigError, DataError, MmmedError
from mmmed.evaluation.trained import Fit

Work = Callable[..., object]
"""Does a share, given as its last argument; it must be importable by its name."""


class Turns:
    """Numbers from 0 that processes of one machine take one after another, each of them once."""

    def __init__(self) -> None:
        self._next = multiprocessing.get_context("spawn").Value("i", 0)

    def take(self) -> int:
        """The next that no process has taken."""
        with self._next.get_lock():
            taken = int(self._next.value)
            self._next.value += 1
        return taken


@dataclass
class Share:
    """Which of several processes this is, and which pieces are its own of a work that all go through in one order.

    Args:
        number: Of this process.
        of: How many there are.
        turns: Where they take pieces as they come to them, for pieces differ in how long they take; without it each
            does every so-many-th.
    """

    number: int
    of: int
    turns: Turns | None = None
    _met: int = field(default=0, init=False, compare=False)
    _taken: int = field(default=-1, init=False, compare=False)

    def takes(self) -> bool:
        """Whether the next piece is its own; to be asked of every piece."""
        place, self._met = self._met, self._met + 1
        if self.turns is None:
            return place % self.of == self.number
        if self._taken < place:
            self._taken = self.turns.take()
        return self._taken == place


WHOLE = Share(0, 1)


def beside_others(fit: Fit, share: Share) -> Fit:
    """Training without a bar of its own, and on a GPU of its own where there are several."""
    gpus = torch.cuda.device_count()
    device = ["--trainer.devices", f"[{share.number % gpus}]"] if gpus > 1 else []
    return lambda arguments: fit([*arguments, "--trainer.enable_progress_bar", "false", *device])


def launched_share() -> Share:
    """The share of a process that torchrun started, which takes a GPU of its own where there are some; or the whole.

    Raises:
        ConfigError: Its environment says half of it.
    """
    number, of = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if number is None and of is None:
        return WHOLE
    if number is None or of is None or not number.isdecimal() or not of.isdecimal() or not int(number) < int(of):
        raise ConfigError(f"RANK is {number!r} and WORLD_SIZE {of!r}; let torchrun set both, or unset both")
    _take_device(int(os.environ.get("LOCAL_RANK", number)))
    return Share(int(number), int(of))


def wait_for_others() -> None:
    """Go on when every process that torchrun started has come this far."""
    torch.distributed.init_process_group("gloo")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def in_processes(work: Work, *arguments: Any, processes: int) -> None:
    """Do a work in several processes, the first of which is this one, and wait for all.

    Each takes what is next of it (`Share.takes`). The threads of this process, or the GPUs, are divided among them.

    Args:
        work: Called with the arguments and a share.
        arguments: Of things that can be sent to a process.
        processes: How many.

    Raises:
        ConfigError: Fewer than one process.
        DataError: One of them did not come to its end; what was done is kept.
    """
    if processes < 1:
        raise ConfigError(f"processes is {processes}; expected 1 or more")
    threads = torch.get_num_threads()
    each = max(1, threads // processes)
    context = multiprocessing.get_context("spawn")
    turns = Turns()
    others = [
        context.Process(target=_other, args=(work, arguments, Share(number, processes, turns), each))
        for number in range(1, processes)
    ]
    for one in others:
        one.start()
    torch.set_num_threads(each)
    is_done = False
    try:
        work(*arguments, Share(0, processes, turns))
        is_done = True
    finally:
        torch.set_num_threads(threads)
        for one in others:
            if not is_done:
                one.terminate()
            one.join()
    if failed := [number for number, one in enumerate(others, start=1) if one.exitcode]:
        raise DataError(
            f"process {failed[0]} of {processes} ended with code {others[failed[0] - 1].exitcode}; "
            "what was done is kept, run again to go on"
        )


def _other(work: Work, arguments: tuple[Any, ...], share: Share, threads: int) -> None:
    torch.set_num_threads(threads)
    _take_device(share.number)
    try:
        work(*arguments, share)
    except MmmedError as error:
        print(f"mmmed: error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def _take_device(number: int) -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
