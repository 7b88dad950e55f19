"""Matrix products in float32 by oneDNN, on processors for which the usual library, MKL, takes half of their width.

MKL uses 512-bit registers on processors of Intel alone; on others that have them, oneDNN's products take about half
of the time, forward and backward (docs/performance.md). Results differ in the last bits, as between any two libraries.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Shape letters: N rows, I inputs, O outputs.

_CPUINFO = Path("/proc/cpuinfo")


@cache
def is_faster() -> bool:
    """Whether oneDNN's products in float32 are the faster ones on this processor."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch._C._has_mkldnn:
        return False
    return _CPUINFO.is_file() and "GenuineIntel" not in _CPUINFO.read_text(encoding="utf-8", errors="replace")


def use_fastest_products(model: nn.Module) -> None:
    """Have the linear layers of a model computed by the faster library; weights and their names stay as they are."""
    if is_faster():
        for layer in model.modules():
            if type(layer) is nn.Linear:
                layer.__class__ = OneDnnLinear


class OneDnnLinear(nn.Linear):
    """A linear layer that oneDNN computes, wherever plain tensors in float32 lie on a CPU; else it is torch's own."""

    def forward(self, input: Tensor) -> Tensor:
        """Outputs (..., O) of inputs (..., I)."""
        weight, bias = self.weight, self.bias
        if not _is_plain(input, weight):
            return super().forward(input)
        if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (input, weight, bias)):
            product: Tensor = _Product.apply(input, weight, bias)
            return product
        return _linear(input, weight, bias)


def _is_plain(input: Tensor, weight: Tensor) -> bool:
    return (
        input.device.type == "cpu"
        and weight.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and type(weight) in (nn.Parameter, Tensor)
        and input.numel() > 0
    )


def _linear(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    compute = _opaque_linear if torch.compiler.is_compiling() else _computed
    product: Tensor = compute(input, weight_OI, bias_O)
    return product


def _computed(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight_OI, bias_O, "none", [], "")
    return product


@torch.library.custom_op("mmmed::linear", mutates_args=())
def _opaque_linear(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    # Torch's compiler takes oneDNN's own operation with constant weights alone.
    return _computed(input, weight_OI, bias_O)


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
        rows_NO = gradient.flatten(0, -2)
        return (
            _linear(gradient, weight_OI.t(), None) if needed[0] else None,
            _linear(rows_NO.t(), input.flatten(0, -2).t(), None) if needed[1] else None,
            rows_NO.sum(0) if needed[2] else None,
        )
