"""What a stage asks of any model: named parts that learn or are frozen, one by one."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mmmed.transforms import ImageTransform


class ModelOfParts(nn.Module, ABC):
    """A model whose parts have names, so that a configuration can say which of them learn."""

    parts: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Of the part that reads words."""

    @property
    @abstractmethod
    def transform(self) -> "ImageTransform | None":
        """How images are to be prepared; None for a text-only model."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """How to build the same architecture without its weights."""

    def part(self, name: str) -> Any:
        """One of `parts` by name, or None."""
        return getattr(self, name)
