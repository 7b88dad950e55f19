"""A token weighs the same, whatever micro-batch it is in."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from mmmed.data.collate import pad
from mmmed.models.vlm import VisionLanguageModel
from mmmed.records import Example
from mmmed.training.objectives import AnswerLoss
from mmmed.training.stage import Stage
from mmmed.training.weighting import answer_for

sgd = partial(torch.optim.SGD, lr=0.1)


class Batches(lightning.LightningDataModule):
    """The same examples in batches of so many."""

    def __init__(self, examples: list[Example], size: int) -> None:
        super().__init__()
        self._examples, self._size = examples, size

    def examples(self, split: str) -> list[Example]:
        return self._examples

    def train_dataloader(self) -> DataLoader[Any]:
        processor = self.trainer.lightning_module.processor
        inputs = [processor.training(example) for example in self._examples]
        return DataLoader(inputs, batch_size=self._size, collate_fn=partial(pad, image_id=processor.image_id))

    val_dataloader = train_dataloader


def trained(model: VisionLanguageModel, examples: list[Example], folder: Path, *, size: int) -> tuple[Stage, float]:
    """One step on all examples, in batches of `size`; the stage, and the loss that was told."""
    stage = Stage("instruct", model, {"projector": 1e-1, "language": 1e-1}, sgd)
    runner = lightning.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        max_steps=1,
        limit_val_batches=0,
        accumulate_grad_batches=len(examples) // size,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    runner.fit(stage, datamodule=Batches(examples, size))
    return stage, float(runner.callback_metrics["train/loss"])


def test_micro_batches_learn_what_one_batch_of_all_learns(
    make_model: Callable[..., VisionLanguageModel], examples: list[Example], tmp_path: Path
) -> None:
    whole, loss = trained(make_model(), examples, tmp_path, size=len(examples))
    for size in (1, 2):
        stage, told = trained(make_model(), examples, tmp_path, size=size)
        assert abs(told - loss) < 1e-5 * loss
        for (name, one), other in zip(stage.named_parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)


def test_the_mean_of_means_would_be_another_loss(
    make_model: Callable[..., VisionLanguageModel], make_processor: Callable[..., Any], examples: list[Example]
) -> None:
    model = make_model()
    processor = make_processor(model)
    inputs = [processor.training(example) for example in examples]
    batches = [pad([one], image_id=processor.image_id) for one in inputs]
    weights = torch.tensor([float(AnswerLoss().weight(batch)) for batch in batches])
    assert len(set(weights.tolist())) > 1
    losses = torch.stack([AnswerLoss().loss(model, batch).detach() for batch in batches])
    whole = AnswerLoss().loss(model, pad(inputs, image_id=processor.image_id)).detach()
    torch.testing.assert_close((losses * weights).sum() / weights.sum(), whole)
    assert abs(losses.mean() - whole) > 1e-3


def test_a_rank_answers_for_what_its_batch_did_not_use() -> None:
    used, unused = torch.nn.Linear(2, 1), torch.nn.Linear(3, 3)
    loss = used(torch.ones(2)).sum()
    answered = answer_for(loss, unused.parameters())
    answered.backward()
    assert answered == loss
    assert all(bool((one.grad == 0).all()) for one in unused.parameters())
