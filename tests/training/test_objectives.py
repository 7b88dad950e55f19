"""The loss of the answers is the one that language models are trained with."""

from collections.abc import Callable

import pytest
import torch

from mmmed.data.collate import pad
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.training.objectives import AnswerLoss


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
