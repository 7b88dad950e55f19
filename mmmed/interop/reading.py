"""What is understood of a foreign checkpoint before anything is copied, and what all readers share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmed.errors import CheckpointError
from mmmed.interop.layouts import Layout
from mmmed.interop.names import Plan, Shape
from mmmed.interop.tensors import TensorFiles
from mmmed.transforms import ImageTransform


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A foreign checkpoint, understood but not yet copied.

    Args:
        layout: Whose names the tensors have.
        recipe: Of our model.
        plan: Our tensors, by where they come from.
        shapes: Of all that can be read: the checkpoint, and the references that complete it.
        dtypes: Of the same.
        read: Gives one tensor.
        transform: How pixels are prepared.
        tokenizer: With its chat template.
        whole_vision: Names of all tensors of the encoder at full depth, as we would call them.
        checked: Tensors that are looked at and not copied, such as a second projector layer that changes nothing.
        image_id: The token id of an image, where the checkpoint says it.
        vocabulary: Rows of the vocabulary before our own export padded it.
        system: System prompt.
        provenance: What the checkpoint tells of itself.
        others: Files of references, to be closed.
    """

    layout: Layout
    recipe: Mapping[str, Any]
    plan: Plan
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, torch.dtype]
    read: Callable[[str], Tensor]
    transform: ImageTransform
    tokenizer: Any
    whole_vision: Collection[str] = ()
    checked: Collection[str] = ()
    image_id: int | None = None
    vocabulary: int | None = None
    system: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    others: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True, slots=True)
class Merged:
    """The checkpoint's tensors and those of a reference that completes it."""

    names: Mapping[str, str]
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, torch.dtype]
    first: TensorFiles
    second: TensorFiles | None

    def read(self, name: str) -> Tensor:
        if name in self.first.shapes or self.second is None:
            return self.first.read(name)
        return self.second.read(name)


def whole_vision(config: Mapping[str, Any]) -> list[str]:
    """Names of all tensors of an encoder of transformers, by our names, whatever layer is chosen later."""
    from transformers import AutoConfig, AutoModel

    values = dict(config)
    with torch.device("meta"):
        model: Any = AutoModel.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(values.pop("model_type"), **values)
        )
    return [f"vision.model.{name.removeprefix('vision_model.')}" for name in model.state_dict()]


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        CheckpointError: There is none that transformers can load.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{folder} has no tokenizer that can be loaded ({reason})") from error
