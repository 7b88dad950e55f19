"""The three losses of BLIP-2 are what they are by hand, take their negatives from other texts, and can be learned."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from mmmed.data.collate import pad
from mmmed.errors import ConfigError, RecordError
from mmmed.models.qformer import QFormerProjector
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.training.qformer import QFormerLoss, draw_negatives, same_text, supervised_texts
from mmmed.training.stage import Stage

MakeModel = Callable[..., VisionLanguageModel]
MakeProcessor = Callable[..., Processor]
TINY: dict[str, Any] = {"queries": 4, "width": 32, "layers": 2, "heads": 4, "dropout": 0.0, "shared": 16}


@pytest.fixture
def model(make_model: MakeModel) -> VisionLanguageModel:
    plain = make_model()
    projector = partial(QFormerProjector, vocabulary=420, positions=32, **TINY)
    torch.manual_seed(0)
    return VisionLanguageModel(plain.language, plain.vision, projector).eval()


@pytest.fixture
def batch(model: VisionLanguageModel, make_processor: MakeProcessor, make_example: Callable[..., Example]) -> Batch:
    texts = ["Normal heart size.", "left effusion", "right effusion", "cardiomegaly present"]
    processor = make_processor(model)
    inputs = [processor.training(make_example(text, "What is shown?", text, 5 * i)) for i, text in enumerate(texts)]
    return pad(inputs, image_id=processor.image_id)


def test_one_batch_is_learned(model: VisionLanguageModel, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = QFormerLoss(smoothing=0.0)
    torch.manual_seed(0)
    for parameter in model.projector.parameters():
        if parameter.dim() > 1:  # so small a transformer learns slowly from weights as small as BERT's
            nn.init.normal_(parameter, std=0.2)
    optimizer = torch.optim.AdamW(model.projector.parameters(), lr=1e-2, weight_decay=0.0)
    features = torch.randn(4, 16, 32)  # an encoder without training gives all films nearly the same
    monkeypatch.setattr(model, "look", lambda pixels, *, kept: features)
    told = []
    for _ in range(60):
        loss = objective.loss(model, batch)
        told.append(objective.measures() | {"loss": loss.detach()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    first, last = told[0], {name: torch.stack([one[name] for one in told[-5:]]).mean() for name in told[0]}
    torch.testing.assert_close(first["loss"], first["contrastive"] + first["matching"] + first["captioning"])
    assert first["contrastive"] > 1.2 > 0.1 > last["contrastive"]
    assert first["matching"] > 0.6 > 0.4 > last["matching"]
    assert first["captioning"] > 4 > 0.2 > last["captioning"]


def test_the_losses_train_all_that_reads_and_not_the_way_to_the_language_model(
    model: VisionLanguageModel, batch: Batch
) -> None:
    QFormerLoss().loss(model, batch).backward()
    idle = {name for name, one in model.projector.named_parameters() if one.grad is None}
    assert idle == {"language_projection.weight", "language_projection.bias"}


@torch.no_grad()
def test_the_contrastive_loss_is_that_of_each_image_among_the_texts_and_back(
    model: VisionLanguageModel, batch: Batch
) -> None:
    objective = QFormerLoss(smoothing=0.1)
    objective.loss(model, batch)
    projector, features = model.projector, model.look(batch.pixels_NCHW)
    rows = []
    for image in features:
        row = []
        for ids, supervised in zip(batch.ids_BT, batch.supervised_BT, strict=True):
            text = torch.cat([torch.tensor([projector.whole_text_id]), ids[supervised]])[None]
            row.append(projector.similarity(projector.read(image[None], text, torch.ones_like(text), sight="apart")))
        rows.append(torch.cat(row, dim=1) / 0.07)
    logits, own = torch.cat(rows), torch.arange(4)
    expected = sum(cross_entropy(one, own, label_smoothing=0.1) for one in (logits, logits.T)) / 2
    torch.testing.assert_close(objective.measures()["contrastive"], expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_captioning_is_the_mean_over_the_words_each_given_those_before(
    model: VisionLanguageModel, batch: Batch
) -> None:
    objective = QFormerLoss()
    objective.loss(model, batch)
    projector, features = model.projector, model.look(batch.pixels_NCHW)
    losses = []
    for image, ids, supervised in zip(features, batch.ids_BT, batch.supervised_BT, strict=True):
        text = ids[supervised].tolist()
        for place, word in enumerate(text):
            before = torch.tensor([[projector.caption_id, *text[:place]]])
            read = projector.read(image[None], before, torch.ones_like(before), sight="captioning")
            losses.append(-projector.caption_logits(read.text_BTD[0, -1]).log_softmax(-1)[word])
    torch.testing.assert_close(objective.measures()["captioning"], torch.stack(losses).mean(), atol=1e-4, rtol=0)


def test_texts_are_the_supervised_words(model: VisionLanguageModel, batch: Batch) -> None:
    ids, attention = supervised_texts(batch)
    tokenizer = model.language.tokenizer
    texts = [tokenizer.decode(row[there.bool()]) for row, there in zip(ids, attention, strict=True)]
    assert [text.removesuffix("<|im_end|>") for text in texts][1:3] == ["left effusion", "right effusion"]
    assert attention.sum() == batch.supervised_BT.sum()


def test_negatives_have_another_text_and_near_ones_are_drawn_most() -> None:
    torch.manual_seed(0)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True  # the first two texts are equal
    similarity = torch.zeros(4, 4)
    similarity[2, 3] = 2.0
    similarity[0, 1] = 99.0
    draws = torch.stack([draw_negatives(similarity, same)[1] for _ in range(400)])
    assert not same[torch.arange(4).expand_as(draws), draws].any()
    share = (draws[:, 2] == 3).float().mean().item()
    assert share == pytest.approx(torch.tensor([0.0, 0.0, 2.0]).softmax(0)[2].item(), abs=0.08)


def test_equal_texts_count_as_one_another_and_leave_no_negative() -> None:
    ids, there = torch.tensor([[1, 2, 0], [1, 2, 0], [1, 2, 0]]), torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1]])
    assert same_text(ids, there).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    rows, columns = draw_negatives(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool))
    assert rows.tolist() == columns.tolist() == []


def test_a_batch_of_one_is_still_a_loss(model: VisionLanguageModel, batch: Batch) -> None:
    one = Batch(*(tensor[:1] for tensor in (batch.ids_BT, batch.attention_BT, batch.supervised_BT)),
                batch.is_image_BT[:1], batch.pixels_NCHW[:1])  # fmt: skip
    assert QFormerLoss().loss(model, one).isfinite()


def test_what_has_no_text_side_or_not_one_image_each_is_refused(
    model: VisionLanguageModel,
    make_model: MakeModel,
    make_processor: MakeProcessor,
    examples: list[Example],
    batch: Batch,
) -> None:
    with pytest.raises(
        ConfigError, match="teaches a QFormerProjector with a `vocabulary`; the projector is MLPProjector"
    ):
        QFormerLoss().loss(make_model(), batch)
    processor = make_processor(model)
    two = pad([processor.training(examples[2])], image_id=processor.image_id)
    with pytest.raises(RecordError, match=r"a batch has \[2\] images"):
        QFormerLoss().loss(model, two)


@pytest.mark.parametrize("objective", [QFormerLoss(), None])
def test_either_stage_trains_in_parallel_since_what_it_does_not_use_is_frozen(
    model: VisionLanguageModel, batch: Batch, objective: QFormerLoss | None, tmp_path: Path
) -> None:
    stage = Stage("align", model, {"projector": 1e-3}, partial(torch.optim.AdamW, lr=1e-3), objective=objective)
    idle = {id(one) for one in (model.projector.language_projection.parameters() if objective else text_side(model))}
    assert {id(one) for one in model.projector.parameters() if not one.requires_grad} == idle
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        step = DistributedDataParallel(OneStep(stage))
        for _ in range(2):  # torch complains in the second one of what had no gradient in the first
            step(batch).backward()
        model.projector.requires_grad_(True)
        step = DistributedDataParallel(OneStep(stage))
        step(batch).backward()
        with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
            step(batch).backward()
    finally:
        distributed.destroy_process_group()


class OneStep(nn.Module):
    """The loss of a stage, as a strategy of Lightning wraps it."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.stage.objective.loss(self.stage.model, batch)


def text_side(model: VisionLanguageModel) -> list[nn.Parameter]:
    """The parameters that a Q-Former has beyond one without a vocabulary."""
    plain = QFormerProjector(32, 32, **TINY)
    return [one for name, one in model.projector.named_parameters() if name not in dict(plain.named_parameters())]
