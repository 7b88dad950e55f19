"""What a run says while it goes on, and what it leaves behind."""

from __future__ import annotations

import logging
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from mmmed.data.card import read_card
from mmmed.data.collate import pad
from mmmed.models.folder import save
from mmmed.training.devices import peak_of
from mmmed.training.flops import StepCost, step_cost
from mmmed.training.provenance import data_hash, environment
from mmmed.training.sharding import whole_state

if TYPE_CHECKING:
    from mmmed.data.datamodule import MedicalData
    from mmmed.models.vlm import Batch, VisionLanguageModel
    from mmmed.training.stage import Stage

_log = logging.getLogger(__name__)


class Pace(Callback):
    """Logs how fast a run goes: tokens and examples a second, what it waits for, and how much of the device it uses.

    `pace/data_wait_seconds` is the time from the end of a batch to the beginning of the next, in which batches are
    awaited and moved, and `pace/data_wait_share` its share of the whole. `pace/useful_tflops` are those of
    `mmmed.training.flops`, and `pace/mfu` is their share of what the device can do: of a GPU by its data sheet, of a
    CPU as measured on a product of matrices when the run begins. Figures are those of the batch that is logged, of
    one rank. Also logs the gradient's norm before clipping.
    """

    def __init__(self) -> None:
        self._start = self._end = 0.0
        self._cost: StepCost | None = None
        self._peak: float | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.loggers:
            self._cost = step_cost(pl_module.model)
            self._peak = peak_of(pl_module.device, str(trainer.precision))
        self._end = perf_counter()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._end = perf_counter()  # what was between epochs is no wait for data

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        self._start = perf_counter()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.loggers and not trainer.global_step % _log_interval(trainer):
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)  # the clock is to stop when the device is done
            self._log(pl_module, batch, waited=self._start - self._end, worked=perf_counter() - self._start)
        self._end = perf_counter()

    def _log(self, stage: Any, batch: Batch, *, waited: float, worked: float) -> None:
        told = {
            "tokens_per_second": int(batch.attention_BT.sum()) / worked,
            "examples_per_second": batch.conversations / worked,
            "data_wait_seconds": waited,
            "data_wait_share": waited / (waited + worked),
        }
        if self._cost is not None:
            rate = self._cost.of(batch).total / worked
            told["useful_tflops"] = rate / 1e12
            if self._peak is not None:
                told["mfu"] = rate / self._peak
        stage.log_dict({f"pace/{name}": value for name, value in told.items()})

    def on_before_optimizer_step(self, trainer: lightning.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        if trainer.global_step % _log_interval(trainer) == 0:
            gradients = [one.grad for one in pl_module.parameters() if one.grad is not None]
            pl_module.log("train/gradient_norm", _norm(gradients))


@runtime_checkable
class Attests(Protocol):
    """A callback that has something to say of how a model was made."""

    def provenance(self) -> dict[str, Any]:
        """By name, for the model's folder."""
        ...


def attested(trainer: lightning.Trainer) -> dict[str, Any]:
    """What the callbacks of a run say of how the model was made."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return {key: value for one in callbacks if isinstance(one, Attests) for key, value in one.provenance().items()}


class SaveModel(Callback):
    """Leaves the trained model as a folder `model` that inference, evaluation and the next stage open.

    When the run kept a best checkpoint by a metric, it is the best weights that are saved.
    """

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.fast_dev_run or trainer.interrupted:  # type: ignore[attr-defined]
            return
        stage, data = cast("Stage", pl_module), cast("MedicalData", trainer.datamodule)  # type: ignore[attr-defined]
        kept = trainer.checkpoint_callback
        best = getattr(kept, "best_model_path", "") if getattr(kept, "monitor", None) is not None else ""
        if best:
            _take_back(stage, trainer, best)
        # What is cut over ranks is put together by all of them; one of them writes it.
        gathered = whole_state(stage.model) if isinstance(stage, FSDPModule) else None
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir) / "model"
        hashed = data_hash(data.examples("train"))
        for logger in trainer.loggers:
            logger.log_hyperparams({"data_hash": hashed})
        save(
            stage.model,
            folder,
            state=gathered,
            settings={"system": stage.processor.system, "max_length": stage.processor.max_length},
            provenance={
                "stage": stage.name,
                "steps": trainer.global_step,
                "parameters": stage.counts(),
                "data": data.summary(),
                "data_hash": hashed,
                "licences": [f"{card.title}: {card.licence}" for card in map(read_card, data.counts["train"])],
                "environment": environment(),
                **attested(trainer),
            },
        )
        _log.info("model saved in %s", folder)


class Showcase(Callback):
    """Logs a table of validation pictures with question, reference and the model's answer to wandb.

    Only pictures whose data card says that they are de-identified are shown, and only where a language model has
    learned to answer.

    Args:
        examples: Number of pictures.
        max_new_tokens: Longest answer.
    """

    def __init__(self, examples: int = 6, max_new_tokens: int = 24) -> None:
        self.examples = examples
        self.max_new_tokens = max_new_tokens

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        logger = next((one for one in trainer.loggers if isinstance(one, WandbLogger)), None)
        if logger is None or trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        stage, data = cast("Stage", pl_module), cast("MedicalData", trainer.datamodule)  # type: ignore[attr-defined]
        if "language" not in stage.learning_rates or isinstance(stage, FSDPModule):  # one rank alone cannot answer
            return
        allowed = {name for name in data.counts.get("validation", ()) if read_card(name).deidentified}
        if not allowed:
            return
        shown = [one for one in data.examples("validation") if one.source in allowed and one.images]
        chosen = shown[:: max(1, len(shown) // self.examples)][: self.examples]
        if not chosen:
            return
        inputs = [stage.processor.question(example) for example in chosen]
        batch = pad(inputs, image_id=stage.processor.image_id, left=True).to(stage.device)
        model = cast("VisionLanguageModel", stage.eval().model)
        ids = model.generate(batch, max_new_tokens=self.max_new_tokens)
        answers = stage.processor.prompt.tokenizer.batch_decode(ids, skip_special_tokens=True)
        rows = [
            (example.images[0].open(), example.question, example.reference, answer.strip())
            for example, answer in zip(chosen, answers, strict=True)
        ]
        _log_pictures(logger, rows)


def _take_back(stage: Stage, trainer: lightning.Trainer, checkpoint: str) -> None:
    """Give a model the weights of a checkpoint."""
    if isinstance(stage, FSDPModule):
        trainer.strategy.load_model_state_dict(trainer.strategy.load_checkpoint(checkpoint))
        return
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    stage.load_state_dict(state, strict=False)


def _log_pictures(logger: WandbLogger, rows: list[tuple[Any, str, str, str]]) -> None:
    import wandb

    table = wandb.Table(columns=["picture", "question", "reference", "answer"])
    for picture, *texts in rows:
        table.add_data(wandb.Image(picture), *texts)
    # A picture inside an offline table stays outside the run's folder, so each is logged by itself as well.
    pictures = [wandb.Image(picture, caption=f"{question} → {answer}") for picture, question, _, answer in rows]
    logger.experiment.log({"answers": table, "pictures": pictures})


def _norm(gradients: list[Tensor]) -> Tensor:
    norm: Tensor = torch.nn.utils.get_total_norm([gradient.detach() for gradient in gradients])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _log_interval(trainer: lightning.Trainer) -> int:
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
