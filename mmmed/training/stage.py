"""One stage of training as a Lightning module: what learns, how fast, and on which loss."""

import logging
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import lightning
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities.enums import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mmmed.errors import CheckpointError, ConfigError, did_you_mean
from mmmed.models.auxiliary import Measured, measures_of, take_auxiliary_loss
from mmmed.models.contrastive import ContrastiveModel
from mmmed.models.folder import load_weights
from mmmed.models.language import CausalLanguageModel
from mmmed.models.parts import ModelOfParts
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.pair import PairProcessor
from mmmed.processing.processor import Processor
from mmmed.training.contrastive import ContrastiveLoss
from mmmed.training.learning import check_parts, halve_frozen, let_learn, trainable_parameters
from mmmed.training.objectives import AnswerLoss, Objective, Weighted
from mmmed.training.qformer import freeze_idle_side
from mmmed.training.resuming import random_states, rescale_progress, set_random_state
from mmmed.training.schedule import warm_cosine
from mmmed.training.sharding import shard
from mmmed.training.weighting import StepMean, answer_for

_log = logging.getLogger(__name__)

STAGES = ("contrastive", "language", "align", "instruct", "preference")


class Stage(lightning.LightningModule):
    """Trains the named parts of a model on the words of its answers; every other part is frozen.

    Args:
        name: `contrastive` (two towers learn what belongs together), `language` (the language model learns from texts),
            `align` (the projector learns to speak to a frozen language model), `instruct` (both learn to answer) or
            `preference` (answers are told from worse ones).
        model: The model.
        learning_rates: Part (`vision`, `projector`, `order`, `cross_attention`, `language`; `vision`, `text`, `shared`
            of two towers) to its peak learning rate; parts that are not named are frozen. A language model with an
            adapter trains that alone.
        optimizer: Makes the optimizer from parameter groups.
        objective: The loss; None is the cross-entropy of the answers, or CLIP's loss of two towers.
        warmup: Share of the steps in which the learning rate rises.
        floor: Share of the peak learning rate at the end.
        init_from: Folder of an earlier stage's model, or of an imported one, to start from, with its way of preparing
            pictures; None starts from the parts' own weights.
        max_length: Longest sequence in tokens.
        system: System prompt; None leaves it to the chat template, an empty text suppresses the template's.
        last_blocks: Of the vision part, only so many blocks learn, counted from the end, with what follows them;
            None is all of it.
        template: Name of a chat template, such as `vicuna`; None takes the tokenizer's own.
        recompute: Keep no activations within the language model's layers, but compute them again for the gradient:
            less memory for a third more time.
        compiled: Let torch fuse the language model's norms and activations, which pays in runs of more than a few
            minutes; on a CPU it needs a C++ compiler.
        frozen_bfloat16: Hold the matrices of frozen parts in bfloat16, under a trainer of precision bf16-mixed: half
            their memory, and nothing to convert at each step. They are saved so, too.

    Raises:
        ConfigError: Unknown stage or part, a model of another stage, nothing to train, or more blocks than the encoder
            has.
        CheckpointError: `init_from` does not fit the model.
    """

    def __init__(
        self,
        name: str,
        model: ModelOfParts,
        learning_rates: dict[str, float],
        optimizer: OptimizerCallable,
        objective: Objective | None = None,
        warmup: float = 0.03,
        floor: float = 0.0,
        init_from: str | None = None,
        max_length: int = 2048,
        system: str | None = None,
        last_blocks: int | None = None,
        template: str | None = None,
        recompute: bool = False,
        compiled: bool = False,
        frozen_bfloat16: bool = False,
    ) -> None:
        super().__init__()
        if name not in STAGES:
            raise ConfigError(f"unknown stage {name!r}{did_you_mean(name, STAGES)}")
        self.name = name
        self.model = model
        self.learning_rates = learning_rates
        self.optimizer = optimizer
        self.objective: Objective = objective if objective is not None else _usual_objective(model)
        _check_kind(name, model, self.objective)
        self.warmup = warmup
        self.floor = floor
        self.last_blocks = last_blocks
        if init_from is not None:
            load_weights(model, Path(init_from))
        self.processor = processor_of(model, max_length=max_length, system=system, template=template)
        self._freeze()
        if recompute:
            _language_of(model, "recompute").recompute()
        if compiled:
            _language_of(model, "compiled").compile_layers()
        self.frozen_bfloat16 = frozen_bfloat16
        if frozen_bfloat16:
            halve_frozen(model)
        self.strict_loading = False
        self._step_mean = StepMean()
        self._batch_index = 0

    def configure_model(self) -> None:
        """Where the engine shards the model over devices, cut it."""
        if self.device_mesh is not None:
            shard(self, self.device_mesh, precision=str(self.trainer.precision))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self._batch_index = batch_idx
        loss = self.objective.loss(self.model, batch)
        told = self._told()
        if (auxiliary := take_auxiliary_loss(self.model)) is not None:
            told["auxiliary_loss"] = auxiliary
        whole = loss if auxiliary is None else loss + auxiliary
        if self.trainer.world_size > 1 and not batch.images:
            whole = answer_for(whole, self._parameters_of_images())
        if self._is_shared(self.objective):
            # The loss of the step is told when all of its parts are there, in on_after_backward.
            whole = self._step_mean.weighed(whole, self.objective.weight(batch), told=loss)
        else:
            told["loss"] = loss
        for name, value in told.items():
            self.log(f"train/{name}", value, prog_bar=name == "loss", batch_size=batch.conversations)
        return whole

    def on_after_backward(self) -> None:
        """When the last micro-batch of a step is in, weigh each token of the step alike."""
        trainer, parts = self.trainer, self.trainer.accumulate_grad_batches
        done = self._batch_index + 1
        if done % parts and done < trainer.num_training_batches and not trainer.is_last_batch:
            return
        loss = self._step_mean.share(self.parameters(), divided_by=parts * trainer.world_size)
        if loss is not None:
            self.log("train/loss", loss, prog_bar=True, batch_size=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        weight = int(batch.supervised_BT.sum())
        self.log(
            "validation/loss", self.objective.loss(self.model, batch), prog_bar=True, batch_size=weight, sync_dist=True
        )

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        weight = int(batch.supervised_BT.sum())
        self.log("test/loss", self.objective.loss(self.model, batch), batch_size=weight, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        groups = [
            {"params": list(trainable_parameters(self.model, part)), "lr": rate, "name": part}
            for part, rate in self.learning_rates.items()
        ]
        optimizer = self.optimizer(groups)
        schedule = partial(
            warm_cosine, steps=int(self.trainer.estimated_stepping_batches), warmup=self.warmup, floor=self.floor
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """As Lightning does, but of fused optimizers too: it refuses them in bfloat16, where no gradient is scaled."""
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            how = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0.0, how)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what learns and the random state; frozen parts come back from where they came from."""
        trained = self._trained_state()
        checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key in trained}
        checkpoint["random_state"] = random_states()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        expected = {(key, value.shape) for key, value in self._trained_state().items()}
        found = {(key, value.shape) for key, value in checkpoint["state_dict"].items()}
        odd = sorted({key for key, _ in expected ^ found})
        if odd:
            raise CheckpointError(
                f"checkpoint and model differ in {len(odd)} trained tensors, such as {odd[0]!r}; "
                "resume with the configuration the checkpoint was made with"
            )
        self._random_states = checkpoint["random_state"]
        rescale_progress(checkpoint["loops"], before=len(self._random_states), now=self.trainer.world_size)

    def setup(self, stage: str) -> None:
        if self.frozen_bfloat16 and str(self.trainer.precision) not in ("bf16-mixed", "bf16-true"):
            raise ConfigError(
                f"frozen_bfloat16 with trainer precision {self.trainer.precision}: set precision: bf16-mixed, or "
                "frozen_bfloat16: false"
            )
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.objective.prepare(self.processor, data.examples("test" if stage == "test" else "train"))

    def on_train_start(self) -> None:
        if (states := getattr(self, "_random_states", None)) is not None:
            set_random_state(states, rank=self.trainer.global_rank)

    def counts(self) -> dict[str, dict[str, int]]:
        """Parameters of each part: all of them, and those that learn."""
        return {
            part: {
                "parameters": sum(one.numel() for one in module.parameters()),
                "trainable": sum(one.numel() for one in module.parameters() if one.requires_grad),
            }
            for part in self.model.parts
            if (module := self.model.part(part)) is not None
        }

    def _is_shared(self, objective: Objective) -> TypeGuard[Weighted]:
        """Whether a step's mean is over several batches that count differently."""
        parts = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return isinstance(objective, Weighted) and parts > 1

    def _parameters_of_images(self) -> list[nn.Parameter]:
        """What learns and is not used by a batch without images."""
        parts = [part for part in self.learning_rates if part not in ("language", "text", "shared")]
        return [one for part in parts for one in trainable_parameters(self.model, part)]

    def _told(self) -> dict[str, Tensor]:
        """What the objective and the model's modules say of the step."""
        own = self.objective.measures() if isinstance(self.objective, Measured) else {}
        return {**own, **measures_of(self.model)}

    def _trained_state(self) -> dict[str, Tensor]:
        """What training changes: the parameters that learn, and the running statistics of their parts."""
        parts = {f"model.{part}." for part in self.model.parts if trainable_parameters(self.model, part)}
        named = self.model.named_parameters(remove_duplicate=False)
        frozen = {f"model.{name}" for name, one in named if not one.requires_grad}
        return {
            key: value
            for key, value in self.state_dict().items()
            # What is kept beside a weight in 4 bits is named after it, and frozen with it.
            if key not in frozen and f"{key.partition('.weight.')[0]}.weight" not in frozen
            if key.startswith(tuple(parts))
        }

    def _freeze(self) -> None:
        check_parts(self.model, self.learning_rates)
        self.learning_rates = {
            part: rate for part, rate in self.learning_rates.items() if self.model.part(part) is not None
        }
        let_learn(self.model, self.learning_rates, last_blocks=self.last_blocks)
        freeze_idle_side(self.model, self.objective)
        for part, count in self.counts().items():
            _log.info("%s: %d of %d parameters learn", part, count["trainable"], count["parameters"])
        if not any(one.requires_grad for one in self.model.parameters()):
            raise ConfigError(f"stage {self.name!r} trains nothing; name a part this model has in learning_rates")


def _language_of(model: ModelOfParts, setting: str) -> CausalLanguageModel:
    language = getattr(model, "language", None)
    if not isinstance(language, CausalLanguageModel):
        raise ConfigError(f"{setting} is for a model with a language model; set {setting}: false")
    return language


def processor_of(model: ModelOfParts, *, max_length: int, system: str | None, template: str | None) -> Any:
    """What makes the inputs of a model: pairs for two towers, conversations for the others.

    Raises:
        ConfigError: A system prompt or template is given to a model that reads no conversation.
    """
    if isinstance(model, ContrastiveModel):
        if (system, template) != (None, None):
            raise ConfigError("a contrastive model reads no conversation; leave system and template out")
        longest = min(max_length, model.text.longest)
        return PairProcessor(model.tokenizer, transform=model.transform, max_length=longest)
    assert isinstance(model, VisionLanguageModel)
    return Processor(
        model.tokenizer,
        transform=model.transform,
        tokens_per_image=model.tokens_per_image,
        max_length=max_length,
        system=system,
        template=template,
    )


def _usual_objective(model: ModelOfParts) -> Objective:
    return ContrastiveLoss() if isinstance(model, ContrastiveModel) else AnswerLoss()


def _check_kind(name: str, model: ModelOfParts, objective: Objective) -> None:
    """Refuse a stage, model and objective of which not all are contrastive, or none."""
    kinds = (name == "contrastive", isinstance(model, ContrastiveModel), isinstance(objective, ContrastiveLoss))
    if len(set(kinds)) > 1:
        raise ConfigError(
            f"stage {name!r} with {type(model).__name__} and {type(objective).__name__}: stage contrastive, "
            "ContrastiveModel and ContrastiveLoss go together, and without them the other stages, models and losses"
        )
