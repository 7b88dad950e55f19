"""Neighbours in an encoder's space: pictures that it takes for alike, to be compared closely.

Letters in tensor names: N pictures, W width of the encoder's features, K neighbours.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor
from tqdm import tqdm

from mmmed.models.vision import VisionEncoder
from mmmed.processing.pixels import to_pixels
from mmmed.records import LazyImage

_BATCH = 32
_NEAREST = 8
_ROWS = 1024


@torch.inference_mode()
def encoder_neighbours(images: Sequence[LazyImage], encoder: VisionEncoder) -> list[tuple[int, int]]:
    """The nearest pictures of each, by the angle between their mean features less what all pictures share."""
    encoder = encoder.eval()
    device = next(encoder.parameters(), torch.zeros(0)).device
    rows = []
    for start in tqdm(range(0, len(images), _BATCH), desc="features", unit="batch", disable=None):
        chosen = images[start : start + _BATCH]
        pixels_BCHW = torch.stack([to_pixels(image.open(), encoder.transform) for image in chosen])
        rows.append(encoder(pixels_BCHW.to(device)).float().mean(1).cpu())
    features_NW = torch.cat(rows) if rows else torch.zeros(0, encoder.width)
    return nearest_pairs(features_NW)


def nearest_pairs(features_NW: Tensor, *, nearest: int = _NEAREST) -> list[tuple[int, int]]:
    """Each row with its `nearest` others, each pair once."""
    features_NW = functional.normalize(features_NW - features_NW.mean(0), dim=1)
    nearest = min(nearest, len(features_NW) - 1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(features_NW), _ROWS):
        alike = features_NW[start : start + _ROWS] @ features_NW.T
        alike[torch.arange(len(alike)), start + torch.arange(len(alike))] = -torch.inf
        for row, others in enumerate(alike.topk(nearest, dim=1).indices.tolist(), start):
            pairs |= {(min(row, other), max(row, other)) for other in others}
    return sorted(pairs)
