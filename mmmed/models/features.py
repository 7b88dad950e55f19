"""Features of a frozen encoder, computed once per picture and kept on disk.

The key is the content: a digest of the normalised pixels (so any change of image or transform misses) under a
digest of the encoder's weights and settings (so any change of weights misses).
"""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn

from mmmed.errors import OutputError
from mmmed.models.vision import VisionEncoder
from mmmed.models.weights import cache_folder

# Shape letters: B images, C channels, H height, W image width or feature width, N tokens.


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
        self._encoder_digest = ""
        self.transform, self.tokens, self.width = encoder.transform, encoder.tokens, encoder.width

    def recipe(self) -> dict[str, Any]:
        return {"class_path": "mmmed.models.features.FrozenFeatures", "init_args": {"encoder": self.encoder.recipe()}}

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder; none of them ever learns."""
        return self.encoder.blocks()

    @torch.no_grad()
    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        paths = [self._path(pixels) for pixels in pixels_BCHW]
        missing = [index for index, path in enumerate(paths) if not path.exists()]
        if missing:
            self._keep([paths[index] for index in missing], self.encoder(pixels_BCHW[missing]))
        return torch.stack([torch.from_numpy(np.load(path)) for path in paths]).to(pixels_BCHW.device)

    def _path(self, pixels_CHW: Tensor) -> Path:
        digest = _digest([pixels_CHW])
        return self._folder / self._digest_of_encoder() / digest[:2] / f"{digest}.npy"

    def _digest_of_encoder(self) -> str:
        if not self._encoder_digest:
            self._encoder_digest = _digest(
                list(self.encoder.state_dict().values()), salt=json.dumps(self.encoder.recipe())
            )[:16]
        return self._encoder_digest

    def _keep(self, paths: Sequence[Path], features_BNW: Tensor) -> None:
        for path, features in zip(paths, features_BNW.float().cpu().numpy(), strict=True):
            partial = path.with_suffix(f".{os.getpid()}.tmp")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with partial.open("wb") as file:
                    np.save(file, features)
                partial.replace(path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    partial.unlink()
                raise OutputError(f"cannot keep image features in {self._folder}: {error.strerror}") from error


def _digest(tensors: Sequence[Tensor], *, salt: str = "") -> str:
    digest = xxhash.xxh3_128(salt.encode())
    for tensor in tensors:
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
