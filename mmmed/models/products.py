"""Matrix products in float32 by oneDNN, on processors that the usual library, MKL, was not made for.

MKL uses 512-bit registers on processors of Intel alone; on others that have them, oneDNN's products take about half
of the time, forward and backward (docs/performance.md). On those without, it is faster with weights that are laid out
for it (`prepacked.py`). Results differ in the last bits, as between any two libraries.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from mmmed.models.prepacked import Prepacked

# Shape letters: N rows, I inputs, O outputs.

_CPUINFO = Path("/proc/cpuinfo")
_PLAIN = (nn.Parameter, Tensor)


@cache
def is_foreign() -> bool:
    """Whether this processor is not of those that MKL was made for, and oneDNN knows it."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512") or not torch._C._has_mkldnn:
        return False
    return _CPUINFO.is_file() and "GenuineIntel" not in _CPUINFO.read_text(encoding="utf-8", errors="replace")


@cache
def is_faster() -> bool:
    """Whether oneDNN is the faster one on this processor with weights as they are, too."""
    return is_foreign() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def use_fastest_products(model: nn.Module) -> None:
    """Have the linear layers of a model computed by the faster library; weights and their names stay as they are."""
    if is_foreign():
        for layer in model.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = OneDnnLinear
                assert isinstance(layer, OneDnnLinear)
                layer.takes_weights_as_they_are = is_faster()


class OneDnnLinear(nn.Linear):
    """A linear layer that oneDNN computes, wherever plain tensors in float32 lie on a CPU; else it is torch's own."""

    prepacked: Prepacked | None = None
    takes_weights_as_they_are = True

    def train(self, mode: bool = True) -> OneDnnLinear:
        """Learn, or answer."""
        if mode:
            self.prepacked = None
        return super().train(mode)

    def forward(self, input: Tensor) -> Tensor:
        """Outputs (..., O) of inputs (..., I)."""
        weight, bias, prepacked = self.weight, self.bias, self.prepacked
        if not is_plain(input, weight):
            return super().forward(input)
        learns = torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (input, weight, bias))
        # What is compiled cannot follow where weights lie.
        if prepacked is not None and not learns and not torch.compiler.is_compiling() and prepacked.is_of(weight):
            return prepacked.product(input, bias)
        if not self.takes_weights_as_they_are:
            return super().forward(input)
        if learns:
            product: Tensor = _Product.apply(input, weight, bias)
            return product
        return _linear(input, weight, bias)


def is_plain(*tensors: Tensor) -> bool:
    """Whether tensors are in float32 on a CPU, and will be computed so."""
    if torch.is_autocast_enabled("cpu"):
        return False
    for one in tensors:
        if not one.is_cpu or one.dtype != torch.float32 or type(one) not in _PLAIN or not one.numel():
            return False
    return True


def _linear(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    compute = _opaque_linear if torch.compiler.is_compiling() else computed
    product: Tensor = compute(input, weight_OI, bias_O)
    return product


def computed(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """By oneDNN, whose weights may be laid out for it."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight_OI, bias_O, "none", [], "")
    return product


@torch.library.custom_op("mmmed::linear", mutates_args=())
def _opaque_linear(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    # Torch's compiler takes oneDNN's own operation with constant weights alone.
    return computed(input, weight_OI, bias_O)


@_opaque_linear.register_fake
def _(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    return input.new_empty((*input.shape[:-1], weight_OI.shape[0]))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        return _linear(input, weight_OI, bias_O)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        input, weight_OI, _ = inputs
        ctx.save_for_backward(input if ctx.needs_input_grad[1] else None, weight_OI)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight_OI = ctx.saved_tensors
        needed = ctx.needs_input_grad
        rows_NO = gradient.reshape(-1, len(weight_OI))
        return (
            _linear(gradient, weight_OI.t(), None) if needed[0] else None,
            _linear(rows_NO.t(), input.reshape(-1, weight_OI.shape[1]).t(), None) if needed[1] else None,
            rows_NO.sum(0) if needed[2] else None,
        )
