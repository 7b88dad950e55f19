"""Fills a model with tensors from a file, where nothing may be missing, left over or misshapen.

A model that is trained further may have more than the file does: fresh adapters, experts and routers in the place of
one dense network, an order of pictures. Those are named and begun here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmmed.errors import CheckpointError
from mmmed.models.adaptation import is_adapter, measure_magnitudes
from mmmed.models.four_bits import fill_four_bits, quantise_like

_EXPERT = re.compile(r"(\.mixture)?\.experts\.\d+(?=\.)")
_ROUTER = re.compile(r"(\.mixture)?\.router\.weight$")


def fill(model: nn.Module, file: Path) -> None:
    """Fill a model with the tensors of a file that was written from one of the same architecture.

    Raises:
        CheckpointError: The file cannot be read, or a tensor is missing, left over or misshapen.
    """
    state = read_tensors(file)
    check_fit(distinct(model.state_dict()), state, file)
    model.load_state_dict(fill_four_bits(model, state), strict=False)


def fill_to_go_on(model: nn.Module, file: Path) -> None:
    """Fill a model that is to be trained further, in which some parts may be new.

    Adapters begin anew where the file has none; an order of pictures and routers that it does not have stay as they
    are, and experts that it does not have become copies of the network that stands in their place there.

    Raises:
        CheckpointError: The file cannot be read, or a tensor is missing, left over or misshapen.
    """
    state, own = read_tensors(file), distinct(model.state_dict())
    begins_anew = not any(map(is_adapter, state))
    if begins_anew:
        state = quantise_like(model, _under_adapters(state, own))
        state |= {key: value for key, value in own.items() if is_adapter(key)}
    order = {key: value for key, value in own.items() if key.startswith("order.")}
    state = order | _into_experts(state, own)
    check_fit(own, state, file)
    model.load_state_dict(fill_four_bits(model, state), strict=False)
    if begins_anew:
        measure_magnitudes(model)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a file of tensors. Raises `CheckpointError` if it is not there or damaged."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); train or copy the model again") from error


def check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], file: Path) -> None:
    """Raise `CheckpointError` unless both have the same names and shapes."""
    odd = sorted(set(own) ^ set(state)) or [key for key in own if own[key].shape != state[key].shape]
    if odd:
        raise CheckpointError(
            f"{file.parent} is of another architecture: {len(odd)} tensors do not fit, such as {odd[0]!r}; "
            "give it the model configuration it was trained with"
        )


def distinct(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor once: tied weights share memory, which safetensors refuses."""
    seen: set[tuple[int, ...]] = set()
    distinct = {}
    for key, tensor in state.items():
        identity = (tensor.data_ptr(), *tensor.shape) if tensor.numel() else (hash(key),)
        if identity not in seen:
            seen.add(identity)
            distinct[key] = tensor.contiguous()
    return distinct


def _under_adapters(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name plain weights as a model with fresh adapters does, which wraps each adapted layer."""
    wrapped = {key.replace(".base_layer.", "."): key for key in own if ".base_layer." in key}
    return {key if key in own else wrapped.get(key, key): value for key, value in state.items()}


def _into_experts(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every expert a copy of the dense network it stands for, where the state has that and no experts."""
    dense = {key: _EXPERT.sub("", key) for key in own if key not in state and _EXPERT.search(key)}
    copied = {key: state[name] for key, name in dense.items() if name in state}
    mixtures = {key[: match.start()] for key in copied if (match := _EXPERT.search(key))}
    routers = {key: value for key, value in own.items() if _ROUTER.sub("", key) in mixtures}
    replaced = set(dense.values())
    return {key: value for key, value in state.items() if key not in replaced} | routers | copied
