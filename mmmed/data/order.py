"""Which examples go together in which step: a pure function of seed and epoch, resumable at any batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Sampler

from mmmed.data.mixture import draw
from mmmed.errors import CheckpointError


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
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        window: int = 16,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.lengths = lengths
        self.weights = weights
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
            yield [seen + index for index in batch]

    def digest(self) -> str:
        """Identifies the order: equal digests, equal batches."""
        decides = (list(self.lengths), self.batch_size, self.seed, self.world, self.window, self.weights)
        return hashlib.sha256(repr(decides).encode()).hexdigest()

    def _batches(self) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.weights is None:
            shuffled = torch.randperm(len(self.lengths), generator=generator).tolist()
        else:
            shuffled = draw(self.weights, generator)
        span = self.batch_size * self.window
        ordered = [
            index
            for start in range(0, len(shuffled), span)
            for index in sorted(shuffled[start : start + span], key=lambda index: self.lengths[index])
        ]
        batches = [ordered[start : start + self.batch_size] for start in range(0, len(ordered), self.batch_size)]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        mixed = [full[index] for index in torch.randperm(len(full), generator=generator).tolist()]
        return mixed[self.rank :: self.world][: len(self)]


class ResumableLoader(DataLoader[Any]):
    """A loader that knows its position and can be set back to the very next batch.

    Its position counts the batches that were handed out, not those that workers have fetched ahead. An epoch is
    over when the next one is begun, since Lightning never asks for the batch after the last.
    """

    def __init__(self, dataset: Any, order: BatchOrder, **arguments: Any) -> None:
        # Each epoch draws a seed for its workers; from the global generator it would move what training resumes from.
        super().__init__(dataset, batch_sampler=order, generator=torch.Generator(), **arguments)
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
        return {**self._handed_out._asdict(), "order": self.order.digest()}

    def resume(self, position: dict[str, Any]) -> None:
        """Go on from a position.

        Raises:
            CheckpointError: It was taken in another order.
        """
        if position["order"] != self.order.digest():
            raise CheckpointError(
                "the checkpoint was made with other batches; resume with the data, batch_size and seed, and the number "
                "of devices, that it was made with"
            )
        self._handed_out = self._next = _Place(position["epoch"], position["batch"])
