"""Learning the language of texts: every token is predicted, and short texts share a row."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.training.cross_entropy import cross_entropy
from mmmed.training.objectives import AnswerLoss

# Shape letters: B batch, T tokens, R rows, W width of a row, D language width, S supervised tokens, V vocabulary.


class LanguageModelling:
    """Cross-entropy of the tokens of documents, each given those before it in its own document.

    A document is an example of one turn, `Turn("document", text)`. Conversations are learned from their answers, as
    by `AnswerLoss`, so that both may stand in one mixture.

    Args:
        packed: Lay documents end to end in rows as long as the longest of them, instead of padding each; what is
            learned is the same. Needs a model that reads positions, and no soft prompt.
    """

    def __init__(self, packed: bool = True) -> None:
        self.packed = packed

    def prepare(self, processor: Processor, examples: Iterable[Example]) -> None:
        """Nothing to learn."""

    def loss(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        """Mean over the supervised tokens."""
        if not self.packed or batch.layout is not None:
            return AnswerLoss().loss(model, batch)
        rows = pack(batch.attention_BT)
        hidden_RWD = model.language(rows.of(model.embed(batch)), None, positions_BT=rows.positions_RW)
        # The first token of a document has nothing before it, and what fills up a row is none.
        predicts_RW = rows.of(batch.supervised_BT) & rows.filled_RW & (rows.positions_RW > 0)
        hidden_SD = hidden_RWD[:, :-1][predicts_RW[:, 1:]]
        return cross_entropy(model.language.head, hidden_SD, rows.of(batch.ids_BT)[predicts_RW])


class Rows(NamedTuple):
    """Where the tokens of a padded batch stand when they are packed.

    Args:
        source_RW: Place of each token in the batch, counted through its rows.
        positions_RW: Place of each token in its document; what fills up a row counts as a document of its own.
        filled_RW: Which places hold a token.
    """

    source_RW: Tensor
    positions_RW: Tensor
    filled_RW: Tensor

    def of(self, tokens_BT: Tensor) -> Tensor:
        """Packed (R, W, ...) what the batch holds for each token (B, T, ...)."""
        return tokens_BT.flatten(0, 1)[self.source_RW]


def pack(attention_BT: Tensor) -> Rows:
    """Lay the sequences of a batch padded on the right end to end, in rows as long as the longest."""
    device, padded = attention_BT.device, attention_BT.shape[1]
    lengths = attention_BT.sum(1).tolist()
    width = max(lengths)
    sources, positions, filled = [], [], []
    for row in share_rows(lengths, width=width):
        places = [torch.arange(lengths[index]) for index in row]
        rest = torch.arange(width - sum(map(len, places)))
        starts = [padded * index + place for index, place in zip(row, places, strict=True)]
        sources.append(torch.cat([*starts, torch.zeros_like(rest)]))
        positions.append(torch.cat([*places, rest]))
        filled.append(torch.arange(width) < width - len(rest))
    return Rows(*(torch.stack(one).to(device) for one in (sources, positions, filled)))


def share_rows(lengths: Sequence[int], *, width: int) -> list[list[int]]:
    """Which sequences share a row of `width`: the longest first, each in the first row that has room for it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        place = next((row for row, left in enumerate(room) if left >= lengths[index]), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(width)
        rows[place].append(index)
        room[place] -= lengths[index]
    return rows
