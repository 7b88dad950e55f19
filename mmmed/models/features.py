"""Features of a frozen encoder, computed once per picture and kept on disk.

The key is the content: of what a picture is decoded from and how it is prepared, where whoever loads it knows that, or
else of the normalised pixels. So any change of image or transform misses. Features stand under a digest of the
encoder's weights and settings and under the type it computes in, so that any change of these misses, too.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.feature_store import FeatureStore
from mmmed.models.vision import VisionEncoder
from mmmed.models.weights import cache_folder

# Shape letters: B images, C channels, H height, W image width or feature width, N images or tokens, P tokens per image,
# K images whose features were kept.


@dataclass(frozen=True, slots=True)
class Kept:
    """The images of a batch whose features need not be computed: beside the pixels of all others.

    Sent to another process, it leaves its features behind: they lie on disk and are mapped there for much less than it
    takes to send them.

    Args:
        folder: Where they are kept, which tells encoders apart.
        keys: Of every image of the batch.
        found_N: For which of them features were found.
        features_KPW: What was found, in order; None where it is yet to be read.
    """

    folder: Path
    keys: tuple[str, ...]
    found_N: Tensor
    features_KPW: Tensor | None

    @classmethod
    def of(cls, folder: Path, keys: Sequence[str], features: Sequence[Tensor | None]) -> "Kept":
        """From the key of each image and what was found under it (P, W)."""
        found = [one for one in features if one is not None]
        return cls(
            folder=folder,
            keys=tuple(keys),
            found_N=torch.tensor([one is not None for one in features], dtype=torch.bool),
            features_KPW=torch.stack(found) if found else torch.empty(0, 0, 0),
        )

    def to(self, device: torch.device) -> "Kept":
        """The same on another device."""
        if self.features_KPW is None:
            return self
        return replace(self, features_KPW=self.features_KPW.to(device, non_blocking=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self.folder, self.keys, self.found_N, None)


class FrozenFeatures(VisionEncoder):
    """An encoder that never learns and therefore sees each picture once, over all epochs, arms and runs.

    Args:
        encoder: The encoder; its parameters are frozen here.
        folder: Where features are kept; the default is the project's cache.
    """

    def __init__(self, encoder: VisionEncoder, folder: str | None = None) -> None:
        super().__init__()
        # Convolutions run up to twice as fast on a CPU with the channels last.
        self.encoder = encoder.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self._folder = Path(folder) if folder else cache_folder() / "features"
        self._digest = ""
        self._digested: list[int] = []
        self._stores: dict[Path, FeatureStore] = {}
        self.transform, self.tokens, self.width = encoder.transform, encoder.tokens, encoder.width

    def recipe(self) -> dict[str, Any]:
        return {"class_path": "mmmed.models.features.FrozenFeatures", "init_args": {"encoder": self.encoder.recipe()}}

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder; none of them ever learns."""
        return self.encoder.blocks()

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        keys = [digest_of_pixels(pixels) for pixels in pixels_BCHW]
        features = self._features(keys, pixels_BCHW, self.store(_computes_in(pixels_BCHW.device)))
        return torch.stack([features[key] for key in keys])

    def complete(self, kept: Kept, pixels_MCHW: Tensor) -> Tensor:
        """Features (N, P, W) of a batch of which some were found: the others are computed from pixels, and kept.

        Raises:
            ConfigError: They were looked up under another encoder or precision, or are gone since.
        """
        device = pixels_MCHW.device
        store = self.store(_computes_in(device))
        if store.folder != kept.folder:
            raise ConfigError(
                "features were looked up for another encoder or precision than the one that runs; begin the run anew"
            )
        found = kept.found_N.tolist()
        found_KPW = _read(kept, store).to(device) if kept.features_KPW is None else kept.features_KPW
        if all(found):
            return found_KPW
        missing = [key for key, is_found in zip(kept.keys, found, strict=True) if not is_found]
        # Found or not when the batch was made: another batch, or another process, may have kept them since.
        computed = self._features(missing, pixels_MCHW, store)
        known = iter(found_KPW)
        rows = [next(known) if is_found else computed[key] for key, is_found in zip(kept.keys, found, strict=True)]
        return torch.stack(rows)

    def store(self, precision: str) -> FeatureStore:
        """Where features of this encoder are kept under a precision of Lightning's."""
        mixed = {"bf16-mixed": "-bfloat16", "16-mixed": "-float16"}.get(precision, "")
        folder = self._folder / f"{self._digest_of_encoder()}{mixed}"
        if folder not in self._stores:
            self._stores[folder] = FeatureStore(folder, tokens=self.tokens, width=self.width)
        return self._stores[folder]

    @torch.no_grad()
    def _features(self, keys: Sequence[str], pixels_BCHW: Tensor, store: FeatureStore) -> dict[str, Tensor]:
        """Features (P, W) of pictures by key: what is not found is computed, once where keys are equal, and kept."""
        known = zip(keys, store.find(keys), strict=True)
        found = {key: features.to(pixels_BCHW.device) for key, features in known if features is not None}
        places = {key: place for place, key in enumerate(keys) if key not in found}
        if places:
            features_MPW = self.encoder(pixels_BCHW[list(places.values())]).float()
            store.keep(list(places), features_MPW)
            found |= zip(places, features_MPW, strict=True)
        return found

    def _digest_of_encoder(self) -> str:
        # Weights may be loaded, or brought to another type, after features were first asked for.
        state = [*self.encoder.parameters(), *self.encoder.buffers()]
        held = [one.data_ptr() for one in state] + [0 if one.is_inference() else one._version for one in state]
        if held != self._digested:
            self._digest = _digest(list(self.encoder.state_dict().values()), salt=json.dumps(self.encoder.recipe()))
            self._digested = held
        return self._digest[:16]


def _read(kept: Kept, store: FeatureStore) -> Tensor:
    """What was found by the process that sent this."""
    keys = [key for key, is_found in zip(kept.keys, kept.found_N.tolist(), strict=True) if is_found]
    features = [one for one in store.find(keys) if one is not None]
    if len(features) < len(keys):
        raise ConfigError(f"features of {len(keys) - len(features)} pictures are gone from {store.folder}; begin anew")
    return torch.stack(features) if features else torch.empty(0, store.tokens, store.width)


def digest_of_pixels(pixels_CHW: Tensor) -> str:
    """The key of a picture of which nothing but its pixels is known."""
    return _digest([pixels_CHW])


def _computes_in(device: torch.device) -> str:
    if not torch.is_autocast_enabled(device.type):
        return ""
    return "bf16-mixed" if torch.get_autocast_dtype(device.type) == torch.bfloat16 else "16-mixed"


def _digest(tensors: Sequence[Tensor], *, salt: str = "") -> str:
    digest = xxhash.xxh3_128(salt.encode())
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
