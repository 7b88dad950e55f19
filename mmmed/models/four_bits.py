"""Linear layers that are kept in 4 bits with bitsandbytes, for QLoRA: made, filled from files, and summed up."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

_FOUR_BITS: dict[str, Any] = {"requires_grad": False, "quant_type": "nf4", "compress_statistics": False}
_BLOCK = 64

# At every start it tells of kernels for processors with bfloat16, which the layers made here do not use.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def to_four_bits(decoder: Any) -> None:
    """Keep the linear layers of a decoder in 4-bit NormalFloat, and the rest in float32.

    The output layer stays as it is, and so do layers whose inputs are no multiple of the block of numbers that share
    a scale: on a CPU bitsandbytes mixes up the scales of blocks that go over the end of a row.
    """
    from bitsandbytes.nn import Linear4bit, Params4bit

    output = decoder.get_output_embeddings()
    for name, layer in list(decoder.named_modules()):
        if type(layer) is not nn.Linear or layer is output or layer.in_features % _BLOCK:
            continue
        small = Linear4bit(layer.in_features, layer.out_features, bias=layer.bias is not None)
        # Where a processor has bfloat16, answering would round scales for good, and what is saved after would differ.
        small.support_avx512bf16_for_cpu = False
        small.weight = Params4bit(layer.weight.detach().float(), **_FOUR_BITS, module=small)
        if layer.bias is not None:
            small.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
        decoder.set_submodule(name, small.to(layer.weight.device))
    decoder.float()
    decoder.is_loaded_in_4bit = True  # peft asks for it


def quantise_like(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring plain weights, named as the module names them, into the form of the layers it keeps in 4 bits."""
    quantised = dict(state)
    for name, _ in _four_bit_layers(module):
        weight = quantised.get(f"{name}.weight")
        if weight is not None and weight.is_floating_point():
            from bitsandbytes.nn import Params4bit

            small = Params4bit(weight.float(), **_FOUR_BITS).to("cpu")
            quantised[f"{name}.weight"] = small.data
            for key, value in small.quant_state.as_dict(packed=True).items():
                quantised[f"{name}.weight.{key}"] = value
    return quantised


def fill_four_bits(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fill the layers that are kept in 4 bits, which `load_state_dict` cannot, and give back the rest of the state."""
    rest = dict(state)
    for name, layer in _four_bit_layers(module):
        from bitsandbytes.nn import Params4bit

        prefix = f"{name}.weight"
        statistics = {key: rest.pop(key) for key in list(rest) if key.startswith(f"{prefix}.")}
        layer.weight = Params4bit.from_prequantized(
            rest.pop(prefix),
            {key.removeprefix(f"{prefix}."): value for key, value in statistics.items()},
            device=layer.weight.device,
            module=layer,
        )
    return rest


def _four_bit_layers(module: nn.Module) -> list[tuple[str, Any]]:
    return [(name, layer) for name, layer in module.named_modules() if in_four_bits(layer)]


def in_four_bits(layer: Any) -> bool:
    """Whether a layer is one of those that `to_four_bits` makes."""
    return hasattr(layer, "quant_state") and isinstance(layer, nn.Linear)


def summed(layer: Any) -> nn.Linear:
    """An adapted layer in 4 bits as one layer in float32."""
    from bitsandbytes.functional import dequantize_4bit

    base = layer.get_base_layer()
    weight = dequantize_4bit(base.weight.data, base.weight.quant_state).float()
    for name in layer.active_adapters:
        weight = weight + layer.get_delta_weight(name).float()
    plain = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device=weight.device)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if base.bias is not None:
        plain.bias = nn.Parameter(base.bias.detach().clone(), requires_grad=False)
    return plain
