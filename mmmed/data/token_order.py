"""Batches by their tokens: as many examples as fit, those about the same images together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from mmmed.data.order import BatchOrder
from mmmed.errors import ConfigError


class TokenOrder(BatchOrder):
    """Batches of as many examples as fit into so many tokens, in random order; each example once an epoch.

    Examples of a group (questions about the same images) stand together, as many as fit, and what they share counts
    once. Without groups a batch is meant to be padded, so that each of its examples counts as its longest. Every epoch
    has as many batches as the first: where chance would make fewer, the largest are halved, and of more, the last are
    left out.

    Args:
        lengths: Tokens of each example.
        tokens: Most tokens of a batch of one rank.
        seed: Of the shuffling.
        groups: Group of each example; None for batches that are padded.
        shared: Tokens of each example that its group shares.
        rank: Of this process; ranks take every `world`-th batch.
        world: Number of processes.
        window: Batches among which there is a choice for an example.
        weights: How often each example is seen, in proportion; None sees each once an epoch.

    Raises:
        ConfigError: An example is longer than a batch, or there are fewer batches than processes.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        tokens: int,
        seed: int,
        groups: Sequence[int] | None = None,
        shared: Sequence[int] | None = None,
        rank: int = 0,
        world: int = 1,
        window: int = 16,
        weights: Sequence[float] | NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(lengths, batch_size=1, seed=seed, rank=rank, world=world, window=window, weights=weights)
        if max(lengths) > tokens:
            raise ConfigError(f"batch_tokens is {tokens}, and the longest example has {max(lengths)} tokens; raise it")
        self.tokens = tokens
        self._tokens_of = list(lengths)
        self.groups = groups
        self.shared = shared or [0] * len(lengths)
        self._all = len(self._cut(0))
        if self._all < world:
            raise ConfigError(f"all examples fit into fewer batches than {world} processes need; lower batch_tokens")

    def __len__(self) -> int:
        return self._all // self.world

    @cached_property
    def digest(self) -> str:
        """Identifies the order: equal digests, equal batches."""
        groups = None if self.groups is None else list(self.groups)
        decides = (super().digest, self.tokens, groups, list(self.shared))
        return hashlib.sha256(repr(decides).encode()).hexdigest()

    def _batches(self) -> list[list[int]]:
        batches = self._cut(self.epoch)
        while len(batches) < self._all:
            largest = max(range(len(batches)), key=lambda number: len(batches[number]))
            whole = batches.pop(largest)
            batches += [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
        return batches[self.rank : len(self) * self.world : self.world]

    def _cut(self, epoch: int) -> list[list[int]]:
        """All batches of an epoch, in random order."""
        generator = self._generator(epoch)
        shuffled: list[int] = self._shuffled(generator).tolist()
        batches = self._padded(shuffled) if self.groups is None else self._packed(shuffled)
        return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]

    def _padded(self, shuffled: list[int]) -> list[list[int]]:
        """Similar lengths together, cut where one more would not fit."""
        span = self.window * max(1, self.tokens // max(1, sum(self._tokens_of) // len(self._tokens_of)))
        batches: list[list[int]] = []
        for start in range(0, len(shuffled), span):
            batch: list[int] = []
            for index in sorted(shuffled[start : start + span], key=lambda index: self._tokens_of[index]):
                if batch and self._tokens_of[index] * (len(batch) + 1) > self.tokens:
                    batches.append(batch)
                    batch = []
                batch.append(index)
            batches.append(batch)
        return batches

    def _packed(self, shuffled: list[int]) -> list[list[int]]:
        """Trees of a group's examples, each in the first of the open batches that has room for it."""
        batches: list[list[int]] = []
        open_batches: list[tuple[int, list[int]]] = []  # tokens left, and what is in it
        for tree, cost in self._trees(shuffled):
            room = next((place for place, (left, _) in enumerate(open_batches) if left >= cost), None)
            if room is None:
                if len(open_batches) == self.window:
                    fullest = min(range(self.window), key=lambda place: open_batches[place][0])
                    batches.append(open_batches.pop(fullest)[1])
                open_batches.append((self.tokens - cost, tree))
            else:
                left, batch = open_batches[room]
                open_batches[room] = (left - cost, batch + tree)
        return batches + [batch for _, batch in open_batches]

    def _trees(self, shuffled: list[int]) -> Iterator[tuple[list[int], int]]:
        """The examples by group, in random order, and the tokens of each tree; a large group makes several."""
        assert self.groups is not None
        members: dict[int, list[int]] = {}
        for index in shuffled:
            members.setdefault(self.groups[index], []).append(index)
        for group in members.values():
            tree: list[int] = []
            cost = 0
            for index in group:
                own = self._tokens_of[index] - self.shared[index]
                if tree and cost + own > self.tokens:
                    yield tree, cost
                    tree, cost = [], 0
                cost += own if tree else self._tokens_of[index]
                tree.append(index)
            yield tree, cost
