"""Every token of a document is learned, and documents that share a row do not learn from each other."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmmed.data.collate import pack as lay_in_one_row
from mmmed.data.collate import pad
from mmmed.errors import ConfigError, RecordError
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.training.language_modelling import LanguageModelling, pack, share_rows

TEXTS = (
    "Normal heart size.",
    "Is there a pleural effusion on this film? no.",
    "right",
    "What is shown? left and right.",
)


def documents(*texts: str) -> list[Example]:
    return [
        Example(id=str(index), patient=str(index), turns=(Turn("document", text),)) for index, text in enumerate(texts)
    ]


@pytest.fixture
def model(make_model: Callable[..., VisionLanguageModel]) -> VisionLanguageModel:
    return make_model(vision=False, initializer_range=0.3)


def batch_of(processor: Processor, examples: list[Example]) -> Batch:
    return pad([processor.training(example) for example in examples], image_id=processor.image_id)


@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_is_that_of_transformers_on_each_document_alone(
    model: VisionLanguageModel, make_processor: Callable[..., Processor], packed: bool
) -> None:
    processor = make_processor(model)
    examples = documents(*TEXTS)
    loss = LanguageModelling(packed=packed).loss(model, batch_of(processor, examples))
    loss.backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters()}
    model.zero_grad()
    losses, counts = [], []
    for example in examples:
        ids = processor.training(example).ids[None]
        counts.append(ids.shape[1] - 1)
        losses.append(model.language.model(input_ids=ids, labels=ids).loss * counts[-1])
    expected = sum(losses) / sum(counts)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    expected.backward()
    for name, one in model.named_parameters():
        torch.testing.assert_close(gradients[name], one.grad, atol=1e-5, rtol=1e-4)


def test_a_row_packed_to_its_full_length_teaches_what_each_document_alone_does(
    model: VisionLanguageModel, make_processor: Callable[..., Processor]
) -> None:
    processor = make_processor(model)
    inputs = [processor.training(example) for example in documents(*TEXTS)]

    def taught(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        loss = LanguageModelling().loss(model, batch)
        loss.backward()
        return loss.detach(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    row = lay_in_one_row(inputs, image_id=processor.image_id)
    assert row.ids_BT.shape == (1, sum(len(one.ids) for one in inputs)), "all documents stand in one row, unpadded"
    loss, gradients = taught(row)
    alone = [taught(pad([one], image_id=processor.image_id)) for one in inputs]
    weights = [len(one.ids) - 1 for one in inputs]
    expected = sum(weight * each for weight, (each, _) in zip(weights, alone, strict=True)) / sum(weights)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    for name, gradient in gradients.items():
        mean = sum(weight * each[name] for weight, (_, each) in zip(weights, alone, strict=True)) / sum(weights)
        torch.testing.assert_close(gradient, mean, atol=1e-5, rtol=1e-4)


def test_packing_conversations_about_films_changes_nothing(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor], examples: list[Example]
) -> None:
    model = make_model(initializer_range=0.3)
    batch = batch_of(make_processor(model), [*examples, *documents(*TEXTS)])
    with torch.no_grad():
        packed, padded = (LanguageModelling(packed=choice).loss(model, batch) for choice in (True, False))
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=0)


def test_every_token_stands_once_in_the_rows() -> None:
    lengths = torch.tensor([3, 7, 4, 2, 5])
    attention_BT = (torch.arange(7) < lengths[:, None]).long()
    rows = pack(attention_BT)
    assert rows.source_RW.shape == (3, 7), "21 tokens fit in three rows of seven"
    assert sorted(rows.source_RW[rows.filled_RW].tolist()) == attention_BT.flatten().nonzero().flatten().tolist()
    positions_BT = attention_BT.cumsum(1) - 1
    assert torch.equal(rows.of(positions_BT)[rows.filled_RW], rows.positions_RW[rows.filled_RW])


@pytest.mark.parametrize(
    ("lengths", "rows"), [([5], [[0]]), ([2, 5, 3], [[1], [2, 0]]), ([4, 4, 4], [[0], [1], [2]]), ([], [])]
)
def test_sequences_share_the_first_row_with_room(lengths: list[int], rows: list[list[int]]) -> None:
    assert share_rows(lengths, width=5) == rows


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapter": {"kind": "prompt"}}, "a soft prompt stands in front of one document"),
        ({"model_type": "bloom", "n_head": 2, "n_layer": 1}, "bloom reads no positions"),
    ],
)
def test_what_cannot_be_packed_is_refused(
    make_model: Callable[..., VisionLanguageModel],
    make_processor: Callable[..., Processor],
    settings: dict[str, Any],
    message: str,
) -> None:
    model = make_model(vision=False, **settings)
    with pytest.raises(ConfigError, match=message):
        LanguageModelling().loss(model, batch_of(make_processor(model), documents(*TEXTS)))


def test_a_document_stands_alone(model: VisionLanguageModel, make_processor: Callable[..., Processor]) -> None:
    turns = (Turn("document", "Normal."), Turn("user", "Is it?"))
    with pytest.raises(RecordError, match="a document stands alone"):
        make_processor(model).training(Example(id="a", patient="p", turns=turns))
