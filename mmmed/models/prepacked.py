"""Weights of a model that answers, held a second time, as oneDNN reads them fastest.

Products of all layers are then 1.2 to 1.3 times as fast, for the next token of some answers as for thousands of tokens
(docs/performance.md). Layers that read the same rows, such as those of queries, keys and values, are one product: where
rows are few, waking the threads costs as much as what they do.

Shape letters: I inputs, O outputs, of several layers one after another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.models.products import OneDnnLinear, computed, is_plain

MOST = 2 * 1024**3
"""Bytes of weights up to which a model holds them twice."""
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers of one module that read the same rows, as transformers names them."""


def prepack(model: nn.Module) -> None:
    """Lay out the weights of its linear layers, beside those it has, unless they take more than `MOST`.

    A layer gives its share up once it trains, and does not look at it where its weights are no longer those.
    """
    drop_prepacked(model)
    layers = [layer for layer in _layers(model) if is_plain(layer.weight)]
    if sum(layer.weight.nbytes for layer in layers) > MOST:
        return
    for together in _siblings(model):
        _lay_out(together)
    for layer in layers:
        if layer.prepacked is None:
            _lay_out([layer])


def drop_prepacked(model: nn.Module) -> None:
    """Give up what `prepack` has laid out."""
    for layer in _layers(model):
        layer.prepacked = None


class Prepacked:
    """What one layer has of weights that are laid out for several.

    Args:
        weights: Of all of them.
        number: Of the layer among them.
        layer: It.
    """

    def __init__(self, weights: _Weights, number: int, layer: OneDnnLinear) -> None:
        self._weights, self._number = weights, number
        self._state = _state_of(layer.weight)

    def is_of(self, weight: Tensor) -> bool:
        """Whether a layer's weights are still those that were laid out."""
        return self._state == _state_of(weight)

    def product(self, input: Tensor, bias: Tensor | None) -> Tensor:
        """Outputs of the layer."""
        return self._weights.product(self._number, input, bias)

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copied layer has weights of its own, and no second copy of them."""


class _Weights:
    """Weights of layers that read the same rows."""

    def __init__(self, layers: Sequence[OneDnnLinear]) -> None:
        weights = [layer.weight.detach() for layer in layers]
        self._sizes = [len(one) for one in weights]
        joined_OI = torch.cat(weights) if len(weights) > 1 else weights[0]
        self._weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(joined_OI)
        self._kept = _Kept()

    def product(self, number: int, input: Tensor, bias: Tensor | None) -> Tensor:
        if len(self._sizes) == 1:
            return computed(input, self._weight, bias)
        if self._kept.input is not input or number not in self._kept.outputs:
            self._kept.input = input
            self._kept.outputs = dict(enumerate(computed(input, self._weight, None).split_with_sizes(self._sizes, -1)))
        output = self._kept.outputs.pop(number)
        if not self._kept.outputs:
            self._kept.input = None
        return output if bias is None else output + bias


class _Kept(threading.local):
    """Outputs of the layers that have not asked for them yet, in each thread."""

    def __init__(self) -> None:
        self.input: Tensor | None = None
        self.outputs: dict[int, Tensor] = {}


def _layers(model: nn.Module) -> Iterator[OneDnnLinear]:
    return (one for one in model.modules() if isinstance(one, OneDnnLinear))


def _siblings(model: nn.Module) -> Iterator[list[OneDnnLinear]]:
    for module in model.modules():
        for names in SIBLINGS:
            layers = [getattr(module, name, None) for name in names]
            found = [one for one in layers if isinstance(one, OneDnnLinear) and is_plain(one.weight)]
            if len(found) == len(names) and len({one.in_features for one in found}) == 1:
                yield found


def _lay_out(layers: Sequence[OneDnnLinear]) -> None:
    weights = _Weights(layers)
    for number, layer in enumerate(layers):
        layer.prepacked = Prepacked(weights, number, layer)


def _state_of(weight: Tensor) -> tuple[int, int]:
    """What changes with the weights: where they lie, and how often they were written to."""
    return weight.data_ptr(), weight._version
