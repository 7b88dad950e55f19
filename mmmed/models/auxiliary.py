"""What a module has to say of its last forward pass beside its output: a loss of its own, and measures to be logged."""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Measured(Protocol):
    """Anything that can describe what it did last."""

    def measures(self) -> dict[str, Tensor]:
        """Name to scalar, without gradient; empty before the first time."""
        ...


class Auxiliary(ABC):
    """A module that keeps a loss of its last forward pass in training, and can describe that pass.

    Both are of the last pass alone: where a module runs several times before the optimizer's step, the last counts.
    """

    auxiliary_loss: Tensor | None = None

    @abstractmethod
    def measures(self) -> dict[str, Tensor]:
        """Name to scalar, without gradient; empty before the first pass."""


def take_auxiliary_loss(model: nn.Module) -> Tensor | None:
    """Sum and forget the losses that a model's modules kept; None where none did."""
    total = None
    for module in model.modules():
        if isinstance(module, Auxiliary) and (loss := module.auxiliary_loss) is not None:
            total = loss if total is None else total + loss
            module.auxiliary_loss = None
    return total


def measures_of(model: nn.Module) -> dict[str, Tensor]:
    """The measures of all modules of a model, each under its module's name: ``projector.experts/share_0``."""
    return {
        f"{name}/{key}": value
        for name, module in model.named_modules()
        if isinstance(module, Auxiliary)
        for key, value in module.measures().items()
    }
