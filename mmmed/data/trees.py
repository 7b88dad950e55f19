"""Questions about the same images, brought together so that each image is decoded, encoded and read once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mmmed.data.collection import Collection, picture_sets
from mmmed.data.kept import KeptPictures
from mmmed.data.token_counts import token_counts
from mmmed.data.token_order import TokenOrder
from mmmed.errors import ConfigError
from mmmed.processing.augmentation import Augmentation
from mmmed.processing.processor import ModelInput, Processor, without_images
from mmmed.records import Example, LazyImage


class Questions(Dataset[ModelInput]):
    """Examples as model inputs, made a batch at a time, in which those about the same images share their pixels.

    Args:
        examples: The questions, each by itself.
        processor: Of the model.
        augmentation: How images are changed in training, alike for all that share them; None leaves them as they are.
        kept: What a frozen encoder's features are looked up with; None decodes every picture.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        processor: Processor,
        *,
        augmentation: Augmentation | None = None,
        kept: KeptPictures | None = None,
    ) -> None:
        self.examples = examples
        self.processor = processor
        self.augmentation = augmentation
        self.kept = kept

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> ModelInput:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[ModelInput]:
        """The examples of a batch; indices count on through the epochs, as `BatchOrder` gives them."""
        places = [divmod(index, len(self.examples)) for index in indices]
        asked = [(epoch, self.examples[place]) for epoch, place in places]
        keyed = [((epoch, _names(example)), example) for epoch, example in asked]
        together: dict[tuple[int, tuple[str, ...]], list[Example]] = {}
        for key, example in keyed:
            together.setdefault(key, []).append(example)
        images = {key: self._images(group, epoch=key[0]) for key, group in together.items()}
        asked_of = [(replace(example, images=images[key]), key) for key, example in keyed]
        if self.kept is not None:
            shown = {key: self.kept.show(group) for key, group in images.items()}
            return [self.kept.training(example, shown[key]) for example, key in asked_of]
        pixels = {key: self.processor.pixels(group) for key, group in images.items()}
        return [self.processor.training(example, pixels=pixels[key]) for example, key in asked_of]

    def _images(self, group: Sequence[Example], *, epoch: int) -> tuple[LazyImage, ...]:
        """The images of a group, changed as they would be for one conversation of all its questions."""
        first, *rest = group
        if self.augmentation is None:
            return first.images
        turns = (*first.turns, *(turn for one in rest for turn in without_images(one).turns))
        return self.augmentation.changed(replace(first, turns=turns, options=()), epoch=epoch).images


def token_order(
    examples: Sequence[Example],
    processor: object,
    *,
    tokens: int,
    together: bool,
    seed: int,
    rank: int,
    world: int,
    weights: Sequence[float] | NDArray[np.float64] | None,
) -> TokenOrder:
    """The order of batches of so many tokens.

    Args:
        examples: What is ordered.
        processor: Of the model.
        tokens: Most tokens of a batch.
        together: Bring questions about the same images into one batch and count the images once.
        seed: Of the order.
        rank: Of this process.
        world: Number of processes.
        weights: As for `TokenOrder`.

    Raises:
        ConfigError: The processor makes pairs of pictures and texts, whose batches are counted in pairs.
    """
    if not isinstance(processor, Processor):
        raise ConfigError("batch_tokens is for conversations; a contrastive stage counts pairs: set batch_size instead")
    counts = token_counts(examples, processor)
    groups = None
    if together:
        groups = examples.picture_sets if isinstance(examples, Collection) else picture_sets(examples)
    return TokenOrder(
        counts.tokens.tolist(),
        tokens=tokens,
        seed=seed,
        groups=groups.tolist() if groups is not None else None,
        shared=(counts.images * processor.tokens_per_image).tolist() if together else None,
        rank=rank,
        world=world,
        weights=weights,
    )


def _names(example: Example) -> tuple[str, ...]:
    return tuple(image.name for image in example.images)
