"""Which examples go together in which step: a pure function of seed and epoch, resumable at any batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from mmmed.data.mixture import draw
from mmmed.data.sending import Sending
from mmmed.errors import CheckpointError, ConfigError

_RUNS_AT_ONCE = 4


class _Place(NamedTuple):
    """The next batch: its epoch, and its number in the epoch."""

    epoch: int
    batch: int


class BatchOrder(Sampler[list[int]]):
    """Batches of similar length in random order; without weights, every example once an epoch.

    Examples are shuffled, sorted by length within windows of many batches, and cut; so a batch wastes little
    padding and still differs from epoch to epoch. A last short batch is dropped, unless it is the only one.

    Args:
        lengths: Length of each example, in any unit.
        batch_size: Examples per batch and rank.
        seed: Of the shuffling.
        rank: Of this process; ranks take every `world`-th batch.
        world: Number of processes.
        window: Batches that are sorted by length together.
        weights: How often each example is seen, in proportion; None sees each once an epoch.
        nearby: As many neighbours are seen at about the same time, so that few files of shards that come from afar are
            needed at once; None shuffles all. Where there are weights, it is without effect.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        window: int = 16,
        weights: Sequence[float] | NDArray[np.float64] | None = None,
        nearby: int | None = None,
    ) -> None:
        if nearby is not None and nearby < 1:
            raise ConfigError(f"nearby is {nearby}; expected 1 or more, or null to shuffle all")
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.weights = None if weights is None else np.asarray(weights, dtype=np.float64)
        self.nearby = nearby if weights is None else None
        self.batch_size = min(batch_size, len(lengths))
        self.seed = seed
        self.rank = rank
        self.world = world
        self.window = window
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return len(self.lengths) // self.batch_size // self.world

    def __iter__(self) -> Iterator[list[int]]:
        """Indices that count on through the epochs: that of an example is the remainder by the number of examples.

        So whoever prepares it, in whatever process, knows in which epoch it is seen.
        """
        seen = self.epoch * len(self.lengths)
        for batch in self._batches()[self.start :]:
            yield (seen + np.asarray(batch)).tolist()

    @cached_property
    def digest(self) -> str:
        """Identifies the order: equal digests, equal batches, however many ranks share them."""
        weights = None if self.weights is None else self.weights.tolist()
        decides = (self.lengths.tolist(), self.batch_size, self.seed, self.window, weights, self.nearby)
        return hashlib.sha256(repr(decides).encode()).hexdigest()

    def _batches(self) -> Sequence[Sequence[int]] | NDArray[np.int64]:
        """The batches of this rank in the epoch that is set."""
        generator = self._generator(self.epoch)
        shuffled = self._shuffled(generator)
        # Within a window by length, and of equal lengths as they were shuffled.
        windows = np.arange(len(shuffled)) // (self.batch_size * self.window)
        ordered = shuffled[np.lexsort((self.lengths[shuffled], windows))]
        full = ordered[: len(ordered) // self.batch_size * self.batch_size].reshape(-1, self.batch_size)
        mixed = self._mixed(len(full), self.batch_size, generator)
        return full[mixed[self.rank :: self.world][: len(self)]]

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)

    def _shuffled(self, generator: torch.Generator) -> NDArray[np.int64]:
        count = len(self.lengths)
        if self.weights is not None:
            return np.array(draw(self.weights, generator))
        if self.nearby is None:
            return self._mixed(count, 1, generator)
        runs = torch.randperm(-(-count // self.nearby), generator=generator).numpy()
        places = (runs[:, None] * self.nearby + np.arange(self.nearby)).ravel()
        return places[places < count][self._mixed(count, 1, generator)]

    def _mixed(self, count: int, size: int, generator: torch.Generator) -> NDArray[np.int64]:
        """Places in random order: all of them, or where neighbours stay together, those of a few runs at a time."""
        mixed: NDArray[np.int64] = torch.randperm(count, generator=generator).numpy()
        if self.nearby is None:
            return mixed
        return mixed[np.argsort(mixed * size // (self.nearby * _RUNS_AT_ONCE), kind="stable")]


class ResumableLoader(DataLoader[Any]):
    """A loader that knows its position and can be set back to the very next batch.

    Its position counts the batches that were handed out, not those that workers have fetched ahead. An epoch is
    over when the next one is begun, since Lightning never asks for the batch after the last.
    """

    def __init__(self, dataset: Any, order: BatchOrder, *, collate_fn: Callable[[Any], Any], **arguments: Any) -> None:
        # Each epoch draws a seed for its workers; from the global generator it would move what training resumes from.
        super().__init__(
            dataset, batch_sampler=order, collate_fn=Sending(collate_fn), generator=torch.Generator(), **arguments
        )
        self.order = order
        self._handed_out = _Place(epoch=0, batch=0)
        self._next = self._handed_out

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        epoch, start = self._handed_out = self._next
        self._next = _Place(epoch + 1, 0)
        self.order.epoch, self.order.start = epoch, start
        for count, batch in enumerate(super().__iter__(), start=start + 1):
            self._handed_out = _Place(epoch, count) if count < len(self.order) else self._next
            yield batch

    def position(self) -> dict[str, Any]:
        """Epoch and batch to go on from, and in which order."""
        return {**self._handed_out._asdict(), "world": self.order.world, "order": self.order.digest}

    def resume(self, position: dict[str, Any]) -> None:
        """Go on from a position, which other ranks may have taken: where their batches do not divide, some come again.

        Raises:
            CheckpointError: It was taken in another order.
        """
        if position["order"] != self.order.digest:
            raise CheckpointError(
                "the checkpoint was made with other batches; resume with the data, batch_size and seed that it was "
                "made with"
            )
        batch = position["batch"] * position["world"] // self.order.world
        self._handed_out = self._next = _Place(position["epoch"], min(batch, len(self.order) - 1))
