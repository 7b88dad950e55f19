"""One mean over the tokens of a step, whatever ranks and micro-batches they come in."""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor


class StepMean:
    """Counts what the losses of a step are means over, and makes of the gradients those of one mean.

    Ranks and micro-batches hold different numbers of supervised tokens. The mean of their means would weigh a token
    by what stands beside it, so that the loss would depend on how many devices there are. Each loss is therefore
    multiplied by its count, and the summed gradients are divided by the count of all.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def weighed(self, loss: Tensor, weight: int, *, told: Tensor) -> Tensor:
        """A micro-batch's loss times what it is a mean over; what is told of it and its weight are kept in mind."""
        sums = torch.stack([told.detach().double() * weight, told.new_tensor(weight, dtype=torch.double)])
        self._sums = sums if self._sums is None else self._sums + sums
        return loss * weight

    def share(self, parameters: Iterable[nn.Parameter], *, divided_by: int) -> Tensor | None:
        """Turn gradients of summed losses into those of the mean over all ranks and micro-batches of the step.

        Args:
            parameters: Those that have gradients, the same ones on each rank.
            divided_by: What the engine has divided the gradients by: micro-batches times ranks.

        Returns:
            What is told of the whole step; None where there was none.
        """
        if self._sums is None:
            return None
        sums, self._sums = self._sums, None
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        loss, weight = sums.unbind()
        factor = divided_by / weight.clamp(min=1)
        for parameter in parameters:
            if parameter.grad is not None:
                gradient = parameter.grad
                part = gradient.to_local() if isinstance(gradient, DTensor) else gradient
                part.mul_(factor.to(part.dtype))
        return (loss / weight.clamp(min=1)).float()


def answer_for(loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    """The same loss, with a gradient of zero for parameters that this rank's batch did not use.

    All ranks have to answer for the same parameters, or those that do wait for ever for those that do not; a batch
    without images uses no projector.
    """
    nothing = [parameter.reshape(-1)[:1].sum() for parameter in parameters]
    return loss + 0.0 * torch.stack(nothing).sum().to(loss.dtype) if nothing else loss
