"""Private training clips, adds noise and counts as it says, held against closed forms and opacus' accountant."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor

from mmmed.data.collate import pad
from mmmed.errors import ConfigError
from mmmed.models.vlm import VisionLanguageModel
from mmmed.records import Example
from mmmed.training.callbacks import attested
from mmmed.training.private import PrivateGradients
from mmmed.training.stage import Stage

MakeModel = Callable[..., VisionLanguageModel]
descent = partial(torch.optim.SGD, lr=1.0)


class OneByOne(lightning.LightningDataModule):
    """Examples one by one."""

    def __init__(self, examples: list[Example], batch_size: int = 1) -> None:
        super().__init__()
        self.batch_size = batch_size
        self._examples = examples

    def examples(self, split: str) -> list[Example]:
        return self._examples

    def train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        processor = self.trainer.lightning_module.processor
        inputs = [processor.training(example) for example in self._examples]
        return torch.utils.data.DataLoader(
            inputs, batch_size=self.batch_size, collate_fn=partial(pad, image_id=processor.image_id)
        )

    val_dataloader = train_dataloader


def quiet_trainer(folder: Path, private: PrivateGradients, **settings: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        logger=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        callbacks=[private],
        **settings,
    )


def fit(
    model: VisionLanguageModel, examples: list[Example], private: PrivateGradients, folder: Path, **settings: Any
) -> tuple[Stage, lightning.Trainer]:
    stage = Stage("align", model, {"projector": 1.0}, descent, warmup=0.0, floor=1.0)
    trainer = quiet_trainer(folder, private, **({"max_steps": 1, "accumulate_grad_batches": len(examples)} | settings))
    trainer.fit(stage, OneByOne(examples))
    return stage, trainer


def weights(model: VisionLanguageModel) -> Tensor:
    assert model.projector is not None
    return torch.cat([one.detach().flatten() for one in model.projector.parameters()])


def own_gradients(model: VisionLanguageModel, examples: list[Example]) -> list[Tensor]:
    """The gradient of each example's mean loss, one by one."""
    stage = Stage("align", model, {"projector": 1.0}, descent)
    found = []
    for example in examples:
        batch = pad([stage.processor.training(example)], image_id=stage.processor.image_id)
        stage.zero_grad()
        stage.objective.loss(model, batch).backward()
        assert model.projector is not None
        found.append(torch.cat([one.grad.flatten() for one in model.projector.parameters() if one.grad is not None]))
    return found


def test_a_step_is_the_mean_of_clipped_gradients(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    pictured = [one for one in examples if one.images]
    gradients = own_gradients(make_model(), pictured)
    clip = float(torch.stack(gradients).norm(dim=1).median())
    expected = sum(one * min(1.0, clip / float(one.norm())) for one in gradients) / len(pictured)
    before = weights(make_model())
    private = PrivateGradients(noise=0.0, clip=clip)
    stage, _ = fit(make_model(), pictured, private, tmp_path)
    moved = before - weights(stage.model)  # type: ignore[arg-type]
    assert torch.allclose(moved, torch.as_tensor(expected), rtol=1e-3, atol=1e-6)
    assert float(moved.norm()) <= clip
    assert math.isinf(private.epsilon)


def test_noise_is_as_wide_as_it_says_and_each_step_is_counted(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    pictured = [one for one in examples if one.images][:2]
    private = PrivateGradients(noise=3.0, clip=1e-3, seed=0)
    before = weights(make_model())
    stage, trainer = fit(make_model(), pictured, private, tmp_path, max_steps=3)
    moved = before - weights(stage.model)  # type: ignore[arg-type]
    assert float(moved.std()) == pytest.approx(math.sqrt(3) * 3.0 * 1e-3 / 2, rel=0.05)
    accountant = RDPAccountant()
    for _ in range(3):
        accountant.step(noise_multiplier=3.0, sample_rate=1.0)
    said = attested(trainer)["privacy"]
    assert (said["steps"], said["sample_rate"]) == (3, 1.0)
    assert said["epsilon"] == pytest.approx(accountant.get_epsilon(delta=1e-5))
    resumed = PrivateGradients()
    resumed.load_state_dict(private.state_dict())
    assert resumed.steps == 3


def test_what_the_promise_does_not_hold_for_is_refused(
    make_model: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="expected noise from 0"):
        PrivateGradients(clip=0.0)
    with pytest.raises(ConfigError, match="no gradient_clip_val"):
        fit(make_model(), examples, PrivateGradients(), tmp_path, gradient_clip_val=1.0)
    private = PrivateGradients()
    data = OneByOne(examples, batch_size=2)
    stage = Stage("align", make_model(), {"projector": 1.0}, descent)
    with pytest.raises(ConfigError, match="one by one"):
        quiet_trainer(tmp_path, private, max_steps=1).fit(stage, data)
