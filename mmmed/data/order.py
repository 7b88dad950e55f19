"""Which examples go together in which step: a pure function of seed and epoch, resumable at any batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler


class BatchOrder(Sampler[list[int]]):
    """Batches of similar length in random order, every example once an epoch.

    Examples are shuffled, sorted by length within windows of many batches, and cut; so a batch wastes little
    padding and still differs from epoch to epoch. A last short batch is dropped, unless it is the only one.

    Args:
        lengths: Length of each example, in any unit.
        batch_size: Examples per batch and rank.
        seed: Of the shuffling.
        rank: Of this process; ranks take every `world`-th batch.
        world: Number of processes.
        window: Batches that are sorted by length together.
    """

    def __init__(
        self, lengths: Sequence[int], *, batch_size: int, seed: int, rank: int = 0, world: int = 1, window: int = 16
    ) -> None:
        self.lengths = lengths
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
        yield from self._batches()[self.start :]

    def _batches(self) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=generator).tolist()
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
    """A loader that Lightning saves with the checkpoint and sets back to the very next batch.

    Its position counts the batches that were handed out, not those that workers have fetched ahead.
    """

    def __init__(self, dataset: Any, order: BatchOrder, **arguments: Any) -> None:
        super().__init__(dataset, batch_sampler=order, **arguments)
        self.order = order
        self._position = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self._position = self.order.start
        for batch in super().__iter__():
            self._position += 1
            yield batch
        self.order.epoch += 1
        self.order.start = self._position = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and batch to go on from."""
        return {"epoch": self.order.epoch, "batch": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state_dict` was taken."""
        self.order.epoch, self.order.start = state["epoch"], state["batch"]
        if self.order.start >= len(self.order):
            self.order.epoch, self.order.start = state["epoch"] + 1, 0
