"""A forest of token sequences read by a model, every shared stretch and every image once.

Shape letters: R rows (nodes read together), S tokens of a row, T tokens of nodes end to end, D language width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import Cache

from mmmed.inference.album import Album
from mmmed.inference.forest import SHORTEST_SHARED, Node, grow
from mmmed.inference.threads import side_by_side
from mmmed.inference.trunk import Trunk
from mmmed.models.fusion import splice
from mmmed.models.packing import Layout, one_after_another
from mmmed.models.tree_row import Before
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.records import LazyImage

TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 32768}
"""Tokens of one forward pass, by device; on CPUs more is no faster."""
TOKENS_AT_LEAST = {"cpu": 160, "cuda": 8192}
"""Tokens from which on a forward pass is as fast per token as it gets: longer rows then wait for the next one."""
PADDED_AT_MOST = 0.12
"""Share of padding that rows of unlike length may cost."""
CACHED_AT_ONCE = {"cpu": 32768, "cuda": 262144}
"""Tokens whose keys and values one forward pass may look at, over all its rows."""


class Tail(NamedTuple):
    """What was read up to a node's last token: the last hidden states of the node, and where to go on from."""

    node: Node
    hidden_SD: Tensor
    row: int
    trunk: Trunk | None


def read_forest(
    model: VisionLanguageModel,
    album: Album,
    sequences: Sequence[tuple[int, ...]],
    *,
    keep_tails: bool = False,
    image_id: int,
) -> Iterator[list[Tail]]:
    """Read every sequence, shared stretches once; what was read comes block by block.

    Args:
        model: In evaluation mode.
        album: That the sequences are made with.
        sequences: Distinct ones.
        keep_tails: Whether someone goes on from where sequences end, so that their keys and values are kept.
        image_id: Token id of image places.
    """
    # Beside the text, or numbered by their place in it, images are all read in one go.
    at_once = model.cross_attention is not None or model.order is not None
    ends = [max((place + 1 for place, token in enumerate(one) if token < 0), default=0) for one in sequences]
    forest = grow(sequences, shortest=SHORTEST_SHARED, whole_until=ends if at_once else None)
    reader = _Reader(model, album, sequences, keep_tails=keep_tails, image_id=image_id)
    yield from reader.visit([_Branch(node, 0) for node in forest], trunk=None)


class _Branch(NamedTuple):
    node: Node
    parent: int
    """Row of the trunk that it goes on from."""


class _Row(NamedTuple):
    """Nodes end to end, ready to be read."""

    embeddings_1TD: Tensor
    layout: Layout
    before: Before | None


class _Reader:
    def __init__(
        self,
        model: VisionLanguageModel,
        album: Album,
        sequences: Sequence[tuple[int, ...]],
        *,
        keep_tails: bool,
        image_id: int,
    ) -> None:
        self.model, self.album, self.sequences = model, album, sequences
        self.keep_tails, self.image_id = keep_tails, image_id
        self.device = next(model.parameters()).device

    def visit(self, branches: Sequence[_Branch], *, trunk: Trunk | None) -> Iterator[list[Tail]]:
        ends = [branch for branch in branches if not branch.node.children and not self.keep_tails]
        if ends and self._reads_rows:
            yield from self._rows(ends, trunk)
            branches = [branch for branch in branches if branch.node.children]
        for block in self._blocks(branches, before=trunk.length if trunk else 0):
            is_kept = self.keep_tails or any(branch.node.children for branch in block)
            hidden_RSD, grown = self._read(block, trunk, keep=is_kept)
            yield [
                Tail(branch.node, hidden_RSD[row, : len(branch.node)], row, grown) for row, branch in enumerate(block)
            ]
            following = [_Branch(child, row) for row, branch in enumerate(block) for child in branch.node.children]
            yield from self.visit(following, trunk=grown)

    def _blocks(self, branches: Sequence[_Branch], *, before: int) -> Iterator[list[_Branch]]:
        """Rows of like length together, so that little is padded, as many as the device takes at once."""
        kind = self.device.type if self.device.type in TOKENS_AT_ONCE else "cuda"
        block: list[_Branch] = []
        held = 0
        for branch in sorted(branches, key=lambda one: len(one.node)):
            rows, longest = len(block) + 1, len(branch.node)
            padded = rows * longest - held - longest
            is_full = rows * longest > TOKENS_AT_ONCE[kind] or rows * (before + longest) > CACHED_AT_ONCE[kind]
            is_uneven = held >= TOKENS_AT_LEAST[kind] and padded > PADDED_AT_MOST * rows * longest
            if block and (is_full or is_uneven):
                yield block
                block, held = [], 0
            block.append(branch)
            held += longest
        if block:
            yield block

    @property
    def _reads_rows(self) -> bool:
        in_line = self.model.cross_attention is None and self.model.order is None
        return in_line and self.model.language.reads_rows

    def _rows(self, ends: Sequence[_Branch], trunk: Trunk | None) -> Iterator[list[Tail]]:
        """Nodes that nobody goes on from, end to end in rows without padding, several rows at once."""
        rows = _even_rows(ends, threads=torch.get_num_threads())
        read = side_by_side(self._read_row, (self._row(row, trunk) for row in rows))
        for row, hidden_1TD in zip(rows, read, strict=True):
            parts = hidden_1TD[0].split_with_sizes([len(node) for node, _ in row])
            yield [Tail(node, hidden_SD, 0, None) for (node, _), hidden_SD in zip(row, parts, strict=True)]

    def _row(self, row: Sequence[_Branch], trunk: Trunk | None) -> _Row:
        stretches = [self.sequences[node.sequences[0]][node.begin : node.end] for node, _ in row]
        tokens_1T = torch.tensor([token for stretch in stretches for token in stretch]).unsqueeze(0)
        images = [image for stretch in stretches for image in self.album.images(stretch)]
        layout = one_after_another([(node.begin, node.end) for node, _ in row])
        before = trunk.before([parent for _, parent in row]) if trunk is not None else None
        return _Row(self._embed(tokens_1T, images), layout, before)

    def _read_row(self, row: _Row) -> Tensor:
        hidden_1TD: Tensor = self.model.language(row.embeddings_1TD, None, layout=row.layout, before=row.before)
        return hidden_1TD

    def _read(self, block: Sequence[_Branch], trunk: Trunk | None, *, keep: bool) -> tuple[Tensor, Trunk | None]:
        stretches = [self.sequences[node.sequences[0]][node.begin : node.end] for node, _ in block]
        tokens_RS = pad_sequence([torch.tensor(one) for one in stretches], batch_first=True).to(self.device)
        lengths_R = torch.tensor([len(one) for one in stretches], device=self.device)
        begins_R = torch.tensor([node.begin for node, _ in block], device=self.device)
        places_S = torch.arange(tokens_RS.shape[1], device=self.device)
        seen_RS = (places_S < lengths_R[:, None]).long()
        positions_RS = begins_R[:, None] + places_S
        images = [image for stretch in stretches for image in self.album.images(stretch)]
        # Nothing looks ahead, so that padding at the end needs no mask until someone goes on behind it.
        attention = torch.ones_like(seen_RS)
        cache: Cache | None = self.model.new_cache() if keep else None
        before: Tensor | None = None
        if trunk is not None:
            of_R = torch.tensor([parent for _, parent in block], device=self.device)
            before = trunk.seen_GL[of_R]
            attention = torch.cat([before, attention], dim=1)
            cache = trunk.branch_off(self.model, of_R, keep=keep)
        hidden_RSD = self._forward(tokens_RS, attention, positions_RS, images=images, cache=cache)
        if not keep or cache is None:
            return hidden_RSD, None
        return hidden_RSD, Trunk(cache, seen_RS if before is None else torch.cat([before, seen_RS], dim=1))

    def _forward(
        self,
        tokens_RS: Tensor,
        attention: Tensor,
        positions_RS: Tensor,
        *,
        images: Sequence[LazyImage],
        cache: Cache | None,
    ) -> Tensor:
        model = self.model
        is_image_RS = tokens_RS < 0
        ids_RS = tokens_RS.where(~is_image_RS, self.image_id)
        if model.cross_attention is not None:
            if attention.shape != ids_RS.shape:
                return model.read_on(ids_RS, attention, positions_BT=positions_RS, cache=cache)
            pixels_NCHW = self.album.pixels(images)
            batch = Batch(ids_RS, attention, torch.zeros_like(is_image_RS), is_image_RS, pixels_NCHW)
            return model.read(batch, positions_BT=positions_RS, cache=cache)
        embeddings_RSD = self._embed(tokens_RS, images)
        hidden_RSD: Tensor = model.language(embeddings_RSD, attention, positions_BT=positions_RS, cache=cache)
        return hidden_RSD

    def _embed(self, tokens_RS: Tensor, images: Sequence[LazyImage]) -> Tensor:
        """Words, and the features of images in their places (R, S, D)."""
        model, is_image_RS = self.model, tokens_RS < 0
        embeddings_RSD: Tensor = model.language.embed(tokens_RS.where(~is_image_RS, self.image_id))
        if not images:
            return embeddings_RSD
        features_NKD = self.album.features(images)
        if model.order is not None:
            features_NKD = model.order(features_NKD, is_image_RS, tokens=model.tokens_per_image)
        return splice(embeddings_RSD, features_NKD, is_image_RS)


def _even_rows(ends: Sequence[_Branch], *, threads: int) -> list[list[_Branch]]:
    """Nodes in rows of about the same number of tokens: as many as the device takes at once, a row for each thread."""
    tokens = sum(len(node) for node, _ in ends)
    least = -(-tokens // TOKENS_AT_ONCE["cpu"])
    count = -(-least // threads) * threads if tokens >= threads * TOKENS_AT_LEAST["cpu"] else least
    rows: dict[int, list[_Branch]] = {}
    held = 0
    for branch in sorted(ends, key=lambda one: len(one.node)):
        middle = held + len(branch.node) / 2
        rows.setdefault(int(middle * count / tokens), []).append(branch)
        held += len(branch.node)
    return list(rows.values())
