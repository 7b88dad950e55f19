"""What a model learns of one kind of text and forgets of another, side by side."""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from mmmed.data.collate import pad
from mmmed.data.source import Source, read
from mmmed.errors import ConfigError
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example
from mmmed.training.objectives import AnswerLoss

_log = logging.getLogger(__name__)

FILE = "perplexity.json"


class Perplexity(Callback):
    """Measures perplexity on held-out texts before training, at each validation and at the end.

    Logged as `perplexity/NAME`, and kept in `perplexity.json` of the run: before, after, and by how much it rose, as a
    share (below 0 where it fell). The texts are the validation split of the sources named here, whatever is trained on;
    they are read in the precision of the training.

    Args:
        texts: Sources by name, such as `medical` and `general`.
        limit: Most texts of each source, evenly spread over it.
        batch_size: Texts that are read at once.

    Raises:
        ConfigError: There are no texts, or none of them may be read.
    """

    def __init__(self, texts: dict[str, Source], limit: int = 64, batch_size: int = 4) -> None:
        if not texts or limit < 1:
            raise ConfigError(
                f"perplexity: {len(texts)} texts with limit {limit}; expected sources by name, and a limit from 1"
            )
        self.texts = texts
        self.limit = limit
        self.batch_size = batch_size
        self._examples: dict[str, list[Example]] = {}
        self._before: dict[str, float] = {}

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        for name, source in self.texts.items():
            if name not in self._examples:
                source.prepare()
                found = read([source], "validation").examples
                self._examples[name] = found[:: -(-len(found) // self.limit)]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._before = self._measure(trainer, pl_module)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._measure(trainer, pl_module)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        after = self._measure(trainer, pl_module)
        rise = {name: after[name] / before - 1 for name, before in self._before.items()}
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / FILE
            content = {"before": self._before, "after": after, "rise": rise}
            path.with_suffix(".tmp").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            path.with_suffix(".tmp").replace(path)
        told = (f"{name} {self._before[name]:.2f} to {after[name]:.2f} ({rise[name]:+.1%})" for name in after)
        _log.info("perplexity: %s", ", ".join(told))

    def _measure(self, trainer: lightning.Trainer, stage: Any) -> dict[str, float]:
        modes = {module: module.training for module in stage.modules()}
        stage.eval()
        with trainer.precision_plugin.forward_context():
            found = {
                name: perplexity(stage.model, stage.processor, examples, batch_size=self.batch_size)
                for name, examples in self._examples.items()
            }
        for module, mode in modes.items():
            module.training = mode
        for logger in trainer.loggers:
            logger.log_metrics({f"perplexity/{name}": value for name, value in found.items()}, trainer.global_step)
        return found


@torch.no_grad()
def perplexity(
    model: VisionLanguageModel, processor: Processor, examples: Sequence[Example], *, batch_size: int = 4
) -> float:
    """The exponential of the mean loss of a token, over the learned tokens of all texts together."""
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    objective = AnswerLoss()
    # Texts of about one length share a batch, so that little is padded.
    inputs = sorted((processor.training(one) for one in examples), key=lambda one: len(one.ids))
    for start in range(0, len(inputs), batch_size):
        batch = pad(inputs[start : start + batch_size], image_id=processor.image_id).to(device)
        count = objective.weight(batch)
        total += float(objective.loss(model, batch)) * count
        tokens += count
    return math.exp(total / tokens)
