"""Adapters merged into the weights they adapt, in a copy: other projects' layouts have no place for them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mmmed.errors import CheckpointError
from mmmed.models.folder import load


def merged_state(folder: Path) -> dict[str, Tensor]:
    """Load a model with adapters, and give the tensors of the plain model that computes the same.

    Raises:
        CheckpointError: The adapters are of a kind that cannot be merged.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = load(folder).model
    wrapped: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            wrapped.add(name)
    state = {}
    for name, tensor in model.state_dict().items():
        owner = next((one for one in wrapped if name.startswith(f"{one}.")), None)
        if owner is None:
            state[name] = tensor
        elif name.startswith(f"{owner}.base_layer."):
            state[name.replace(f"{owner}.base_layer.", f"{owner}.", 1)] = tensor
    left = [name for name in state if "lora_" in name or "prompt_encoder" in name]
    if left:
        raise CheckpointError(f"{folder} has adapters that cannot be merged, such as {left[0]!r}; not exportable")
    return state
