"""Which parts of a model learn, and which stay as they are."""

from collections.abc import Collection

import torch
from torch import nn

from mmmed.errors import ConfigError, did_you_mean
from mmmed.models.adaptation import is_adapter
from mmmed.models.features import FrozenFeatures
from mmmed.models.parts import ModelOfParts
from mmmed.models.vision import VisionEncoder


def check_parts(model: ModelOfParts, learning: Collection[str]) -> None:
    """See that the parts that are to learn are some that this kind of model has.

    Raises:
        ConfigError: One is not, or never learns.
    """
    for part in learning:
        if part not in model.parts:
            raise ConfigError(f"unknown part {part!r} in learning_rates{did_you_mean(part, model.parts)}")
    if "vision" in learning and isinstance(model.vision, FrozenFeatures):
        raise ConfigError(
            "learning_rates names vision, but FrozenFeatures never learns; give the encoder itself, or drop vision"
        )
    if "order" in learning and model.vision is not None and model.order is None:
        raise ConfigError("learning_rates names order, but the model has none; set its order, or drop it here")


def let_learn(model: ModelOfParts, learning: Collection[str], *, last_blocks: int | None) -> None:
    """Let some parts learn, and no other.

    Args:
        model: The model.
        learning: Names of parts that it has.
        last_blocks: Of its vision part, how many blocks from the end; None is all.

    Raises:
        ConfigError: The vision part does not learn, or has not so many blocks.
    """
    for part in model.parts:
        if (module := model.part(part)) is not None:
            _set_trainable(module, part in learning)
            if part == "vision" and last_blocks is not None:
                _freeze_before(module, last_blocks, learns=part in learning)
            # A part that is frozen drops nothing and keeps its statistics; Lightning leaves the modes as they are.
            module.train(part in learning)


def trainable_parameters(model: ModelOfParts, part: str) -> list[nn.Parameter]:
    """The parameters of one part that learn."""
    module = model.part(part)
    return [one for one in module.parameters() if one.requires_grad] if module is not None else []


def halve_frozen(model: ModelOfParts) -> None:
    """Hold the matrices of parts of which nothing learns in bfloat16; norms and biases keep their precision."""
    for part in model.parts:
        module = model.part(part)
        if module is not None and not trainable_parameters(model, part):
            for parameter in module.parameters():
                if parameter.ndim > 1 and parameter.is_floating_point():
                    parameter.data = parameter.data.to(torch.bfloat16)


def _set_trainable(module: nn.Module, learns: bool) -> None:
    """Let a part learn or not; where it has adapters, those alone."""
    adapters = any(is_adapter(name) for name, _ in module.named_parameters())
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(learns and (not adapters or is_adapter(name)))


def _freeze_before(vision: VisionEncoder, last_blocks: int, *, learns: bool) -> None:
    """Freeze all of an encoder but its last blocks.

    Raises:
        ConfigError: The encoder does not learn, or has not so many blocks.
    """
    if not learns:
        raise ConfigError("last_blocks is for a vision part that learns; name vision in learning_rates, or drop it")
    blocks = vision.blocks()
    if not 1 <= last_blocks <= len(blocks):
        raise ConfigError(f"last_blocks is {last_blocks}; expected 1 to {len(blocks)}, the blocks of the encoder")
    vision.requires_grad_(False)
    for block in blocks[-last_blocks:]:
        block.requires_grad_(True)
