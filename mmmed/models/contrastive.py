"""Two towers, for images and for texts, whose vectors lie close where image and report belong together.

Letters in tensor names: B images or texts, C colours, H and W pixels, N image tokens, T tokens, E width of the
shared space; in ``features_BNW``, W is the width of the features.
"""

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedTokenizerBase

from mmmed.models.parts import ModelOfParts
from mmmed.models.products import use_fastest_products
from mmmed.models.text import TextEncoder
from mmmed.models.vision import VisionEncoder
from mmmed.transforms import ImageTransform

MOST_SCALE = 100.0
"""Bound of the inverse temperature. Source: Radford et al. 2021, arXiv 2103.00020, section 2.5."""


class MeanPool(nn.Module):
    """The mean over all places of an image."""

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Pool (B, N, W) to (B, W)."""
        return features_BNW.mean(1)


class AttentionPool(nn.Module):
    """Learned queries that look for places in the image, so that a small finding is not averaged away.

    Args:
        width: W, of the features.
        tokens: N, places per image; each has an embedding of its own.
        queries: Vectors that look; what they find is averaged.

    Source: the attention head of SigLIP: Zhai et al. 2022, Scaling Vision Transformers, section 3.2.
    """

    def __init__(self, width: int, tokens: int, queries: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.places_NW = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.queries_QW = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Pool (B, N, W) to (B, W)."""
        places_BNW = self.norm(features_BNW) + self.places_NW
        found_BQW = functional.scaled_dot_product_attention(
            self.queries_QW.expand(len(places_BNW), -1, -1), self.key(places_BNW), self.value(places_BNW)
        )
        return found_BQW.mean(1)


class SharedSpace(nn.Module):
    """What stands behind the towers: pooling, one linear map for each, and the temperature of their similarity.

    Args:
        pool: Makes one vector of an image's features.
        vision_width: Of the image features.
        text_width: Of the text tower.
        width: E, of the shared space.
        scale: Inverse temperature at the start.
        bias: Added to every similarity, at the start; None for none.
    """

    def __init__(
        self, pool: nn.Module, *, vision_width: int, text_width: int, width: int, scale: float, bias: float | None
    ) -> None:
        super().__init__()
        self.pool = pool
        self.image = nn.Linear(vision_width, width, bias=False)
        self.text = nn.Linear(text_width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias)) if bias is not None else None

    @property
    def scale(self) -> Tensor:
        """The inverse temperature, at most `MOST_SCALE`."""
        return self.log_scale.exp().clamp(max=MOST_SCALE)


class ContrastiveModel(ModelOfParts):
    """Puts images and texts into one space, where the cosine says how well they fit.

    Batch norms keep the statistics they came with, also where the image encoder learns: those of a batch would make
    gradients depend on how it is cut into chunks and processes.

    Args:
        vision: The image encoder, which a later stage can take over.
        text: The text encoder.
        width: Of the shared space.
        pool: How one vector is made of an image's features: their mean, or learned queries.
        queries: Number of learned queries.
        scale: Inverse temperature at the start; 1 / 0.07 in CLIP, 10 in SigLIP.
        bias: Added to every similarity at the start: null in CLIP, -10 in SigLIP.

    Source: Radford et al. 2021, arXiv 2103.00020, figure 3; Zhai et al. 2023, arXiv 2303.15343, section 3.2 (bias).
    """

    parts: ClassVar[tuple[str, ...]] = ("vision", "text", "shared")

    def __init__(
        self,
        vision: VisionEncoder,
        text: TextEncoder,
        width: int = 256,
        pool: Literal["mean", "attention"] = "mean",
        queries: int = 4,
        scale: float = 1 / 0.07,
        bias: float | None = None,
    ) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.shared = SharedSpace(
            MeanPool() if pool == "mean" else AttentionPool(vision.width, vision.tokens, queries),
            vision_width=vision.width,
            text_width=text.width,
            width=width,
            scale=scale,
            bias=bias,
        )
        self._settings = {"width": width, "pool": pool, "queries": queries, "scale": scale, "bias": bias}
        use_fastest_products(self)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.text.tokenizer

    @property
    def transform(self) -> ImageTransform:
        return self.vision.transform

    def recipe(self) -> dict[str, Any]:
        towers = {"vision": self.vision.recipe(), "text": self.text.recipe()}
        return {"class_path": "mmmed.models.contrastive.ContrastiveModel", "init_args": towers | self._settings}

    def embed_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Unit vectors of images (B, E)."""
        # Here, because whoever trains a part switches all its layers to training.
        for layer in self.vision.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
        return self.place_images(self.vision(pixels_BCHW))

    def place_images(self, features_BNW: Tensor) -> Tensor:
        """Unit vectors (B, E) of images whose features are known."""
        return functional.normalize(_full(self.shared.image(self.shared.pool(features_BNW))), dim=-1)

    def embed_texts(self, ids_BT: Tensor, attention_BT: Tensor) -> Tensor:
        """Unit vectors of texts (B, E)."""
        return functional.normalize(_full(self.shared.text(self.text(ids_BT, attention_BT))), dim=-1)


def _full(places_BE: Tensor) -> Tensor:
    """At least float32: a temperature of 100 would make rounding of bfloat16 a difference between pairs."""
    return places_BE.float() if places_BE.dtype in (torch.bfloat16, torch.float16) else places_BE
