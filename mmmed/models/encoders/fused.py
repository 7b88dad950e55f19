"""Several encoders that look at one picture together.

Letters in tensor names: B batch, C colours (3), H and W pixels or grid cells, N tokens per image; in
``features_BNW``, W is the width of the features.
"""

import math
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.encoders.renormalise import Renormalise
from mmmed.models.features import FrozenFeatures
from mmmed.models.vision import VisionEncoder


class FusedEncoder(VisionEncoder):
    """Concatenates the features of two or more encoders, token by token: one may see shapes, another words.

    The picture is prepared once, for the encoder of the largest size (the first of several); each other one gets
    it at its own size and in its own normalisation (`Renormalise`). The grid of tokens is that of the first
    encoder, to which the others are interpolated; a single pooled token is repeated over it. Features keep the size
    that their encoder gives them, and encoders may differ tenfold in it.

    Args:
        encoders: Two or more, each with a square grid of tokens (select `patch` or `pooled`). Their widths add up.

    Raises:
        ConfigError: There is one encoder only, or one gives no square grid or has its features kept.

    Source: Karamcheti et al., Prismatic VLMs (2024), section 4.2, for DINOv2 with SigLIP. There, each encoder
    resizes the original picture; here, the smaller ones get it from the largest one's square.
    """

    def __init__(self, encoders: list[VisionEncoder]) -> None:
        super().__init__()
        if len(encoders) < 2:
            raise ConfigError(f"FusedEncoder: got {len(encoders)} encoders; expected two or more")
        for encoder in encoders:
            refuse_kept(encoder, by="FusedEncoder")
            if math.isqrt(encoder.tokens) ** 2 != encoder.tokens:
                raise ConfigError(
                    f"FusedEncoder: {type(encoder).__name__} gives {encoder.tokens} tokens, which are no square grid; "
                    "set its select to patch or pooled"
                )
        self.encoders = nn.ModuleList(encoders)
        leading = max(encoders, key=lambda encoder: encoder.transform.size)
        self.prepared = nn.ModuleList(Renormalise(leading.transform, encoder.transform) for encoder in encoders)
        self.side = math.isqrt(encoders[0].tokens)
        self.transform = leading.transform
        self.tokens, self.width = encoders[0].tokens, sum(encoder.width for encoder in encoders)

    def recipe(self) -> dict[str, Any]:
        recipes = [encoder.recipe() for encoder in self._encoders()]
        return {"class_path": f"{__name__}.FusedEncoder", "init_args": {"encoders": recipes}}

    def blocks(self) -> list[nn.Module]:
        """The blocks of all encoders, joined from the last on, so that the last N are the last N of each."""
        reversed_blocks = zip_longest(*(encoder.blocks()[::-1] for encoder in self._encoders()))
        joined = [nn.ModuleList(block for block in level if block is not None) for level in reversed_blocks]
        return list(joined[::-1])

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, tokens, width)."""
        features = [
            on_grid(encoder(prepared(pixels_BCHW)), side=self.side)
            for encoder, prepared in zip(self.encoders, self.prepared, strict=True)
        ]
        return torch.cat(features, dim=-1)

    def _encoders(self) -> list[VisionEncoder]:
        return [encoder for encoder in self.encoders if isinstance(encoder, VisionEncoder)]


def on_grid(features_BNW: Tensor, *, side: int) -> Tensor:
    """Interpolate a square grid of features (B, N, W) to another (B, side squared, W), bilinearly."""
    batch, tokens, width = features_BNW.shape
    if tokens == side * side:
        return features_BNW
    own = math.isqrt(tokens)
    grid_BWHH = features_BNW.transpose(1, 2).reshape(batch, width, own, own)
    resized = nn.functional.interpolate(grid_BWHH, (side, side), mode="bilinear", antialias=True)
    return resized.flatten(2).transpose(1, 2)


def refuse_kept(encoder: VisionEncoder, *, by: str) -> None:
    """Refuse an encoder whose features are kept on disk as part of another.

    Raises:
        ConfigError: It is `FrozenFeatures`.
    """
    if isinstance(encoder, FrozenFeatures):
        raise ConfigError(f"{by}: give the encoder itself, and put FrozenFeatures around {by}")
