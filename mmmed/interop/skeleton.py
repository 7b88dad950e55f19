"""A model without content: its parts, names and shapes, built from a recipe in no memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmmed.interop.names import Shape
from mmmed.models.folder import build
from mmmed.models.vlm import VisionLanguageModel


def skeleton(content: Mapping[str, Any], *, tokenizer: Path) -> VisionLanguageModel:
    """Build the model of a recipe on torch's meta device.

    Args:
        content: As `mmmed.models.folder.read_content` gives it.
        tokenizer: Folder of the tokenizer.
    """
    with torch.device("meta"):
        return build(content, tokenizer=tokenizer).eval()


def tensor_shapes(model: nn.Module) -> dict[str, Shape]:
    """Name and shape of every tensor that a file of the model holds; of tied weights, the first name alone."""
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied -= {name for name, _ in model.named_parameters()}
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}
