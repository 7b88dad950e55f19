"""How likely a model holds each option of a closed question, with the image and opening read once.

Questions about the same image share everything up to the image's last token. That prefix goes through the model
once; its keys and values then serve every question and every option. Options of one token each are read from a
single forward pass of the question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmmed.data.collate import pad
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import ModelInput, Processor
from mmmed.records import Example, LazyImage

# Shape letters: G prefixes, R rows (a question, or a question with one option), P prefix tokens, S suffix tokens.

ROWS_AT_ONCE = 48


class Likelihoods(NamedTuple):
    """Log-likelihood of each option of one example, in their order."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    prefix: tuple[int, ...]
    tail: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    id: str
    images: tuple[LazyImage, ...]

    @property
    def identity(self) -> tuple[object, ...]:
        return (*self.group, self.tail, self.options)

    @property
    def group(self) -> tuple[object, ...]:
        return (self.prefix, tuple(image.name for image in self.images))

    @property
    def rows(self) -> list[tuple[int, ...]]:
        """What is read after the prefix: the question once, or once with each option of several tokens."""
        if all(len(option) == 1 for option in self.options):
            return [self.tail]
        return [self.tail + option[:-1] for option in self.options]


@torch.inference_mode()
def score_options(
    model: VisionLanguageModel,
    processor: Processor,
    examples: Iterable[Example],
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> list[Likelihoods]:
    """Log-likelihood of every option of every example; equal questions are computed once.

    Args:
        model: In evaluation mode.
        processor: Of the model.
        examples: Closed questions.
        advance: Told how many examples are done since the last call.
    """
    asked = [_question(processor, example) for example in examples]
    distinct = {question.identity: question for question in asked}
    counts = dict.fromkeys(distinct, 0)
    for question in asked:
        counts[question.identity] += 1
    known: dict[tuple[object, ...], Likelihoods] = {}
    for block in _blocks(list(distinct.values())):
        for question, likelihoods in zip(block, _score_block(model, processor, block), strict=True):
            known[question.identity] = likelihoods
        advance(sum(counts[question.identity] for question in block))
    return [known[question.identity] for question in asked]


def _question(processor: Processor, example: Example) -> _Question:
    # Pixels are decoded later, for one block at a time and once for all questions about them.
    asked = processor.question(example, pixels=processor.pixels(()))
    ids = tuple(asked.ids.tolist())
    cut = max((place + 1 for place, token in enumerate(ids) if token == processor.image_id), default=0)
    options = tuple(tuple(processor.answer_ids(example, option)) for option in example.options)
    return _Question(ids[:cut], ids[cut:], options, asked.id, example.images if cut else ())


def _blocks(questions: list[_Question]) -> Iterator[list[_Question]]:
    """Questions with equal prefixes together, in blocks of a bounded number of rows.

    Text alone has no prefix and is never in a block with images.
    """
    groups: dict[tuple[object, ...], list[_Question]] = {}
    for question in questions:
        groups.setdefault(question.group, []).append(question)
    ordered = sorted(groups.values(), key=lambda group: (len(group[0].prefix), len(group[0].tail)))
    block: list[_Question] = []
    rows = 0
    for question in (question for group in ordered for question in group):
        full = rows + len(question.rows) > ROWS_AT_ONCE
        if block and (full or bool(question.prefix) != bool(block[0].prefix)):
            yield block
            block, rows = [], 0
        block.append(question)
        rows += len(question.rows)
    if block:
        yield block


def _score_block(model: VisionLanguageModel, processor: Processor, block: Sequence[_Question]) -> list[Likelihoods]:
    groups = list({question.group: question for question in block}.values())
    places = {question.group: index for index, question in enumerate(groups)}
    rows = [(places[question.group], row) for question in block for row in question.rows]
    hidden = iter(_suffix_states(model, processor, groups, rows))
    return [_read(model, question, [next(hidden) for _ in question.rows]) for question in block]


def _suffix_states(
    model: VisionLanguageModel,
    processor: Processor,
    groups: Sequence[_Question],
    rows: Sequence[tuple[int, tuple[int, ...]]],
) -> list[Tensor]:
    """The last hidden states (S, D) of each row's suffix, read after its prefix."""
    device = next(model.parameters()).device
    suffixes = [torch.tensor(row) for _, row in rows]
    ids_RS = pad_sequence(suffixes, batch_first=True).to(device)
    lengths_R = torch.tensor([len(row) for _, row in rows], device=device)
    seen_RS = (torch.arange(ids_RS.shape[1], device=device) < lengths_R[:, None]).long()
    positions_RS = torch.arange(ids_RS.shape[1], device=device).expand_as(ids_RS)
    cache = None
    if groups[0].prefix:
        prefix = _prefix_batch(processor, groups).to(device)
        positions_GP = (prefix.attention_BT.cumsum(1) - 1).clamp(min=0)
        cache = model.new_cache()
        model.read(prefix, positions_BT=positions_GP, cache=cache)
        of_R = torch.tensor([group for group, _ in rows], device=device)
        cache.batch_select_indices(of_R)
        positions_RS = positions_RS + prefix.attention_BT.sum(1)[of_R][:, None]
        attention = torch.cat([prefix.attention_BT[of_R], seen_RS], dim=1)
    else:
        attention = seen_RS
    hidden_RSD = model.read_on(ids_RS, attention, positions_BT=positions_RS, cache=cache)
    return [hidden_RSD[index, : len(row)] for index, (_, row) in enumerate(rows)]


def _read(model: VisionLanguageModel, question: _Question, hidden: Sequence[Tensor]) -> Likelihoods:
    """Log-likelihoods of the options from the states of the question's rows, in float32."""
    last = len(question.tail) - 1
    if len(hidden) == 1:
        words_V = model.language.head(hidden[0][last]).float().log_softmax(-1)
        return Likelihoods(tuple(float(words_V[option[0]]) for option in question.options))
    values = []
    for option, states_SD in zip(question.options, hidden, strict=True):
        words_LV = model.language.head(states_SD[last:]).float().log_softmax(-1)
        values.append(float(words_LV.gather(1, torch.tensor(option, device=words_LV.device)[:, None]).sum()))
    return Likelihoods(tuple(values))


def _prefix_batch(processor: Processor, groups: Sequence[_Question]) -> Batch:
    inputs = [
        ModelInput(
            group.id,
            torch.tensor(group.prefix),
            torch.zeros(len(group.prefix), dtype=torch.bool),
            processor.pixels(group.images),
        )
        for group in groups
    ]
    return pad(inputs, image_id=processor.image_id, left=True)
