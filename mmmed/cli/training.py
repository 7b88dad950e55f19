"""`mmmed fit`, `validate` and `test`: Lightning's command line, with everything of a run in one folder."""

from __future__ import annotations

import gc
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mmmed.cli.main import ClearErrors
from mmmed.data.datamodule import MedicalData
from mmmed.errors import CheckpointError, MmmedError, OutputError
from mmmed.training.callbacks import Pace, SaveModel, Showcase
from mmmed.training.checkpointing import AtomicCheckpointIO
from mmmed.training.profile import Profile
from mmmed.training.progress import ProgressLines
from mmmed.training.provenance import environment
from mmmed.training.shard_files import META
from mmmed.training.stage import Stage


class TrainingParser(ClearErrors, LightningArgumentParser):
    """Lightning's parser with our one-line errors."""


class TrainingCLI(LightningCLI):
    """Puts checkpoints, logs, quarantine and model of a run under `--output`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--output", type=str, default="outputs/run", help="Folder of everything the run leaves.")
        parser.add_argument(
            "--wandb", type=bool, default=True, help="Log to Weights & Biases (WANDB_MODE decides where)."
        )
        parser.add_argument(
            "--profile", action="store_true", help="Trace a few steps; trace and summary go to OUTPUT/profile."
        )
        parser.link_arguments("output", "trainer.default_root_dir")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """As Lightning does, which opens the checkpoint next, for its hyperparameters."""
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        _check_checkpoint(config.get("ckpt_path"), Path(config.output))

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        _check_writable(Path(config.output))
        if config.get("weights_only") is None:
            config["weights_only"] = True  # a checkpoint is data; it runs no code
        if config.trainer.precision is None:
            config.trainer.precision = best_precision()

    def instantiate_classes(self) -> None:
        """As Lightning does, but what our own classes refuse is not buried under what jsonargparse says of it."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            if (refusal := _refusal_of_ours(error)) is not None:
                raise refusal from error
            raise

    def instantiate_trainer(self, **arguments: Any) -> lightning.Trainer:
        output = Path(self._get(self.config, "output"))
        if self._get(self.config, "trainer.logger") is None:
            arguments["logger"] = _loggers(output, use_wandb=self._get(self.config, "wandb"))
        trainer = super().instantiate_trainer(**arguments)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(output / "checkpoints")
        traced = [Profile()] if self._get(self.config, "profile") else []
        has_bar = trainer.progress_bar_callback is not None and sys.stdout.isatty()
        callbacks[-1:-1] = [
            Pace(),
            *([] if has_bar else [ProgressLines()]),
            *traced,
            Showcase(),
            SaveModel(),
        ]  # Lightning wants the one that saves checkpoints last
        return trainer


class KeepConfig(SaveConfigCallback):
    """Writes the full configuration beside the run, and into the loggers together with what computed it."""

    def save_config(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": self.parser.dump(self.config, skip_none=False), **environment()})


def main(arguments: list[str]) -> None:
    """Run one of Lightning's subcommands; `arguments` begins with its name."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    warnings.filterwarnings("ignore", module="lightning")
    for noisy in ("httpx", "urllib3", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Frozen parts are in evaluation mode on purpose.
    warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
    cli: TrainingCLI | None = None
    try:
        cli = TrainingCLI(
            Stage,
            MedicalData,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=KeepConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            parser_class=TrainingParser,
            parser_kwargs={"prog": "mmmed"},
            # The data module gives each rank its share of the batches itself.
            trainer_defaults={"callbacks": [], "use_distributed_sampler": False},
            args=arguments,
        )
    finally:
        import wandb  # here, because every other command would wait for it

        # A process that trains again, as an experiment does, would otherwise go on in the same run; and the parser,
        # which lives as long as the process, would keep every model.
        if wandb.run is not None:
            wandb.finish()
        if cli is not None:
            vars(cli).clear()
        gc.collect()


def best_precision() -> str:
    """bf16 where the device computes in it, float32 elsewhere: emulated bf16 is slower than float32."""
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


def _loggers(output: Path, *, use_wandb: bool) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(output, name="", version="logs")]
    if use_wandb:
        loggers.append(WandbLogger(save_dir=output, project="mmmed", offline=os.environ.get("WANDB_MODE") == "offline"))
    return loggers


def _refusal_of_ours(error: BaseException | None) -> MmmedError | None:
    """The error of ours that others were raised from."""
    while error is not None and not isinstance(error, MmmedError):
        error = error.__cause__
    return error


def _check_checkpoint(path: str | None, output: Path) -> None:
    if path is None:
        return
    kept = path in ("last", "best")
    if not kept and not (Path(path).is_file() or (Path(path) / META).is_file()):
        raise CheckpointError(f"no checkpoint at {path}; name a .ckpt file, or 'last' for the newest under --output")
    for file in (output / "checkpoints").glob("*.ckpt") if kept else [Path(path)]:
        if file.is_file() and not is_zipfile(
            file
        ):  # its index stands at the end, so that one cut off in writing has none
            raise CheckpointError(f"checkpoint {file} is damaged; delete it, and resume from another or start anew")


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; choose another folder with --output") from error
