"""A contrastive model as what it is used for: images and texts as vectors of one space.

Letters in array names: N images or texts, E width of the shared space, W width of the image features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmmed.errors import CheckpointError
from mmmed.models.contrastive import ContrastiveModel
from mmmed.models.folder import load_contrastive
from mmmed.processing.pair import PairProcessor
from mmmed.records import LazyImage


class ImageVectors(NamedTuple):
    """What a model makes of images: `places_NE` in the shared space, of length one, and `features_NW` before it."""

    places_NE: Tensor
    features_NW: Tensor


class Embedder:
    """Gives images and texts their places in the space they share.

    Args:
        model: The model; it is put in evaluation mode.
        processor: Prepares images and texts as in training.
        device: Where to compute; None takes a GPU where there is one.
        batch_size: Images or texts at once.
    """

    def __init__(
        self, model: ContrastiveModel, processor: PairProcessor, *, device: str | None = None, batch_size: int = 32
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device).eval()
        self.processor = processor
        self.batch_size = batch_size

    @torch.inference_mode()
    def images(self, images: Sequence[LazyImage]) -> ImageVectors:
        """Places of images, and the mean of their features before pooling."""
        places, means = [], []
        for pixels_BCHW in self._pixels(images):
            features_BNW = self.model.vision(pixels_BCHW)
            places.append(self.model.place_images(features_BNW).float().cpu())
            means.append(features_BNW.mean(1).float().cpu())
        return ImageVectors(torch.cat(places), torch.cat(means))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Places of texts (N, E), of the length of one."""
        places = []
        for start in range(0, len(texts), self.batch_size):
            ids = [self.processor.text_ids(text, of=repr(text[:40])) for text in texts[start : start + self.batch_size]]
            ids_BT = pad_sequence(ids, batch_first=True).to(self.device)
            attention_BT = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True).to(self.device)
            places.append(self.model.embed_texts(ids_BT, attention_BT).float().cpu())
        return torch.cat(places)

    def _pixels(self, images: Sequence[LazyImage]) -> Iterator[Tensor]:
        for start in range(0, len(images), self.batch_size):
            yield self.processor.pixels(images[start : start + self.batch_size]).to(self.device)


def open_embedder(folder: str | Path, *, device: str | None = None) -> Embedder:
    """Open a contrastive model: its `model` folder, or the run's folder around it.

    Raises:
        CheckpointError: There is no contrastive model in the folder.
    """
    path = Path(folder)
    if not (path / "model.json").is_file() and (path / "model" / "model.json").is_file():
        path = path / "model"
    if not path.is_dir():
        raise CheckpointError(f"no model at {path}; name the `model` folder that a contrastive stage left")
    opened = load_contrastive(path)
    return embedder_of(opened.model, max_length=opened.settings["max_length"], device=device)


def embedder_of(model: ContrastiveModel, *, max_length: int | None = None, device: str | None = None) -> Embedder:
    """An embedder of a model as it is, trained or not; `max_length` is that of its training."""
    longest = model.text.longest if max_length is None else max_length
    return Embedder(model, PairProcessor(model.tokenizer, transform=model.transform, max_length=longest), device=device)
