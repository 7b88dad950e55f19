"""The loss of the answers is the one that language models are trained with."""

from collections.abc import Callable

import pytest
import torch

from mmmed.data.collate import pad
from mmmed.errors import ConfigError, DataError
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.training.objectives import AnswerLoss, VocabularyLoss


@pytest.mark.parametrize("vision", [True, False])
def test_the_answer_loss_is_that_of_transformers_on_the_same_labels(
    make_model: Callable[..., VisionLanguageModel],
    make_processor: Callable[..., Processor],
    examples: list[Example],
    vision: bool,
) -> None:
    model = make_model(vision=vision)
    processor = make_processor(model)
    batch = pad([processor.training(example) for example in examples], image_id=processor.image_id)
    ours = AnswerLoss().loss(model, batch)
    labels_BT = batch.ids_BT.where(batch.supervised_BT, -100)
    theirs = model.language.model(
        inputs_embeds=model.embed(batch), attention_mask=batch.attention_BT, labels=labels_BT
    ).loss
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    assert all(one.grad is not None for one in model.language.parameters())
    assert not vision or all(one.grad is not None for one in model.projector.parameters())


def test_the_vocabulary_loss_is_a_noisy_or_over_the_image_tokens(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor], examples: list[Example]
) -> None:
    model = make_model()
    processor = make_processor(model)
    seen = [example for example in examples if example.images]
    objective = VocabularyLoss(negatives=0)
    objective.prepare(processor, seen)
    words = objective._words_W.tolist()
    batch = pad([processor.training(example) for example in seen], image_id=processor.image_id)
    expected = []
    embedded = model.embed(batch)
    for row in range(len(seen)):
        unsaid = torch.ones(len(words))
        for token in embedded[row][batch.is_image_BT[row]]:
            unsaid = unsaid * (1 - (model.language.output_matrix[words] @ token).softmax(0))
        answer = set(batch.ids_BT[row][batch.supervised_BT[row]].tolist())
        terms = [(1 - unsaid[i] if word in answer else unsaid[i]).log() for i, word in enumerate(words)]
        expected.append(-torch.stack(terms).sum())
    torch.testing.assert_close(objective.loss(model, batch), torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)


def test_the_vocabulary_loss_needs_eyes_and_answers_that_differ(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Processor], examples: list[Example]
) -> None:
    blind = make_model(vision=False)
    processor = make_processor(blind)
    batch = pad([processor.training(example) for example in examples], image_id=processor.image_id)
    with pytest.raises(ConfigError, match="cannot train a text-only model"):
        VocabularyLoss().loss(blind, batch)
    with pytest.raises(DataError, match="answers that differ"):
        VocabularyLoss().prepare(processor, examples[:1])
