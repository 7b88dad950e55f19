"""Matrix products in float32 by oneDNN, on processors that the usual library, MKL, was not made for.

- MKL uses 512-bit registers on processors of Intel alone; on others that have them, oneDNN's products take about half
  of the time, forward and backward.
- A model that only answers can hold its weights a second time, laid out as oneDNN reads them fastest. Where rows are
  few, such as the next token of some answers, products then take half to two thirds of the time.

Figures are in docs/performance.md. Results differ in the last bits, as between any two libraries.
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
MOST_PACKED = 4 * 1024**3
"""Bytes of weights up to which a model holds them twice."""


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


def pack(model: nn.Module) -> None:
    """Lay out the weights of a model that answers as they are read fastest, beside those it has.

    A layer gives its copy up once it trains, and a model whose weights take more than `MOST_PACKED` gets none.
    """
    layers = [one for one in model.modules() if isinstance(one, OneDnnLinear) and _is_plain(one.weight)]
    if sum(layer.weight.nbytes for layer in layers) <= MOST_PACKED:
        for layer in layers:
            layer.packed = _Packed(layer.weight)


def unpack(model: nn.Module) -> None:
    """Give up what `pack` has laid out."""
    for layer in model.modules():
        if isinstance(layer, OneDnnLinear):
            layer.packed = None


class OneDnnLinear(nn.Linear):
    """A linear layer that oneDNN computes, wherever plain tensors in float32 lie on a CPU; else it is torch's own."""

    packed: _Packed | None = None

    def train(self, mode: bool = True) -> OneDnnLinear:
        """Learn, or answer."""
        if mode:
            self.packed = None
        return super().train(mode)

    def forward(self, input: Tensor) -> Tensor:
        """Outputs (..., O) of inputs (..., I)."""
        weight, bias, packed = self.weight, self.bias, self.packed
        if not _is_plain(input, weight):
            return super().forward(input)
        learns = torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (input, weight, bias))
        # What is compiled cannot follow where weights lie.
        if packed is not None and not learns and not torch.compiler.is_compiling() and packed.is_of(weight):
            return _computed(input, packed.weight, bias)
        if not is_faster():
            return super().forward(input)
        if learns:
            product: Tensor = _Product.apply(input, weight, bias)
            return product
        return _linear(input, weight, bias)


class _Packed:
    """Weights as oneDNN reads them fastest.

    Args:
        weight_OI: They, in float32 on a CPU.
    """

    def __init__(self, weight_OI: Tensor) -> None:
        self.weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach())
        self._state = _state_of(weight_OI)

    def is_of(self, weight_OI: Tensor) -> bool:
        """Whether the weights are still those that were laid out."""
        return self._state == _state_of(weight_OI)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copied layer has weights of its own, and no second copy of them."""


def _state_of(weight: Tensor) -> tuple[int, int]:
    """What changes with the weights: where they lie, and how often they were written to."""
    return weight.data_ptr(), weight._version


def _is_plain(*tensors: Tensor) -> bool:
    return not torch.is_autocast_enabled("cpu") and all(
        one.device.type == "cpu"
        and one.dtype == torch.float32
        and type(one) in (nn.Parameter, Tensor)
        and one.numel() > 0
        for one in tensors
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
        rows_NO = gradient.reshape(-1, len(weight_OI))
        return (
            _linear(gradient, weight_OI.t(), None) if needed[0] else None,
            _linear(rows_NO.t(), input.reshape(-1, weight_OI.shape[1]).t(), None) if needed[1] else None,
            rows_NO.sum(0) if needed[2] else None,
        )
