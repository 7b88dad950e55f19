"""Training that no single conversation can leave much of itself in: clipped gradients with noise (DP-SGD).

Source: Abadi et al. 2016, CCS, Deep Learning with Differential Privacy, algorithm 1; the accountant is that of opacus.
"""

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from mmmed.errors import ConfigError
from mmmed.models.vlm import Batch
from mmmed.training.objectives import Weighted

_ORDERS = [1 + step / 10 for step in range(1, 100)] + [float(order) for order in (*range(11, 64), *range(64, 1025, 32))]
"""Orders of Rényi divergence that are tried; much noise needs high ones for a tight bound."""


class PrivateGradients(Callback):
    """Clips the gradient of each conversation, adds noise to their sum, and keeps account of what that is worth.

    A conversation goes through the model by itself, and a step is made of `accumulate_grad_batches` of them: set
    `batch_size: 1` in the data, and `gradient_clip_val` and other ways to change gradients aside. What is promised is
    about one conversation of this stage's training data: a patient of whom there are several is protected less, and
    what an earlier stage has learned is not covered. Needs the extra `privacy`.

    The accountant takes it that each step draws its conversations independently. They are shuffled instead, as is
    usual, for which no bound as tight is known; the provenance says so.

    Args:
        noise: Standard deviation of the noise, in units of `clip`.
        clip: Greatest norm of the gradient of one conversation's mean loss, over all that learns.
        delta: Chance with which the promise may fail; well below one over the number of conversations.
        seed: Of the noise; None takes one that nobody knows, which the promise needs. For tests.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(self, noise: float = 1.0, clip: float = 1.0, delta: float = 1e-5, seed: int | None = None) -> None:
        if noise < 0 or clip <= 0 or not 0 < delta < 1:
            raise ConfigError(
                f"noise is {noise}, clip {clip}, delta {delta}; expected noise from 0, clip above 0, delta in (0, 1)"
            )
        self.noise, self.clip, self.delta = noise, clip, delta
        self.steps = 0
        self.sample_rate = math.nan
        self._generator = torch.Generator()
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)
        self._sums: dict[nn.Parameter, Tensor] = {}
        self._scale = 1.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Refuse what the promise does not hold for.

        Raises:
            ConfigError: Batches of several conversations, several devices, clipping of the sum, or opacus is missing.
        """
        _accountant()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if getattr(data, "batch_size", 1) != 1 or getattr(data, "batch_tokens", None) is not None:
            raise ConfigError(
                "private gradients need conversations one by one: set batch_size: 1 and no batch_tokens in the data, "
                "and as many as a step is made of in trainer.accumulate_grad_batches"
            )
        if trainer.world_size > 1 or trainer.gradient_clip_val:
            raise ConfigError("private gradients need one device and no gradient_clip_val; they clip by themselves")
        self.sample_rate = min(1.0, trainer.accumulate_grad_batches / len(data.examples("train")))

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Remember what the loss of this conversation is multiplied by before its gradient is taken."""
        parts, objective = trainer.accumulate_grad_batches, pl_module.objective
        weight = objective.weight(batch) if isinstance(objective, Weighted) and parts > 1 else 1
        self._scale = parts / max(1, weight)

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Take one conversation's gradient away, clipped."""
        learning = [one for one in pl_module.parameters() if one.grad is not None]
        gradients = [one.grad * self._scale for one in learning]
        norm = torch.nn.utils.get_total_norm(gradients)
        factor = (self.clip / (norm + 1e-12)).clamp(max=1.0)
        for parameter, gradient in zip(learning, gradients, strict=True):
            clipped = gradient * factor
            self._sums[parameter] = self._sums[parameter] + clipped if parameter in self._sums else clipped
            parameter.grad = None

    def on_before_optimizer_step(self, trainer: lightning.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Give the optimizer the mean of the clipped gradients, with noise for each number that learns."""
        for parameter in (one for one in pl_module.parameters() if one.requires_grad):
            drawn = torch.randn(parameter.shape, generator=self._generator).to(parameter)
            total = self._sums.get(parameter, torch.zeros_like(parameter)) + self.noise * self.clip * drawn
            parameter.grad = total / trainer.accumulate_grad_batches
        self._sums.clear()
        self.steps += 1

    @property
    def epsilon(self) -> float:
        """What the steps so far are worth: the smaller, the less anyone can tell of one conversation."""
        if self.noise == 0:
            return math.inf
        accountant = _accountant()
        accountant.history = [(self.noise, self.sample_rate, self.steps)]
        return float(accountant.get_epsilon(delta=self.delta, alphas=_ORDERS))

    def provenance(self) -> dict[str, Any]:
        """What the model's folder says of it."""
        return {
            "privacy": {
                "epsilon": self.epsilon if self.noise else None,
                "delta": self.delta,
                "noise": self.noise,
                "clip": self.clip,
                "sample_rate": self.sample_rate,
                "steps": self.steps,
                "unit": "conversation",
                "accounting": "Rényi differential privacy of opacus, as if each step drew independently; it shuffles",
            }
        }

    def state_dict(self) -> dict[str, Any]:
        """Steps taken, which a resumed run goes on counting."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.steps = state_dict["steps"]


def _accountant() -> Any:
    try:
        from opacus.accountants import RDPAccountant
    except ImportError as error:
        raise ConfigError("private gradients need opacus: install mmmed[privacy]") from error
    return RDPAccountant()
