"""A short vector for each picture that copies share and other pictures, however alike in kind, do not.

Chest films look alike in most ways. The directions in which these very pictures differ from each other, and in which
a small turn or shift makes no difference, are found from the pictures themselves: they are altered, and the
discriminant directions between pictures are kept (no labels are needed, for every picture is a class of its own).

Letters in tensor names: N pictures, S side of a thumbnail, H side of the small picture that is described, F its
pixels, A alterations, D width of the descriptor.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from mmmed.data.leakage.windows import WHOLE, Window, averaged, flattened, resample, turned, window_maps

WIDTH = 64
_SIDE = 16
_SAMPLE = 2000
_ALTERATIONS = 8
_FEWEST = 4 * WIDTH
_SHRINKAGE = 0.1
# Windows stand a tenth of a side apart, so that none is off by more than half of that, and a bit.
_SHIFT = 0.06
_TURN = 12.0
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Descriptor:
    """How pictures become vectors; made by `fit_descriptor`."""

    mean_F: Tensor
    directions_FD: Tensor

    def describe(self, thumbnails_NSS: Tensor, window: Window = WHOLE) -> Tensor:
        """Unit vectors (N, D) of one window of each thumbnail (uint8)."""
        described = []
        for chunk in torch.split(thumbnails_NSS, _CHUNK):
            flat_NF = _flat(averaged(chunk.float() / 255, window, side=_SIDE))
            described.append(functional.normalize((flat_NF - self.mean_F) @ self.directions_FD, dim=1))
        return torch.cat(described) if described else torch.zeros(0, self.directions_FD.shape[1])


def fit_descriptor(thumbnails_NSS: Tensor, *, seed: int = 0) -> Descriptor:
    """Find the directions that tell these pictures apart and not their alterations.

    With fewer pictures than that takes, all directions count alike.

    Source: linear discriminant analysis, Fisher, The use of multiple measurements in taxonomic problems (1936).
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(thumbnails_NSS), generator=generator)[:_SAMPLE].sort().values
    pictures = thumbnails_NSS[chosen].float() / 255
    versions = [_flat(averaged(pictures, WHOLE, side=_SIDE))]
    if len(pictures) < _FEWEST:
        width = versions[0].shape[1]
        return Descriptor(torch.zeros(width), torch.eye(width))
    versions += [_flat(averaged(_altered(pictures, generator), WHOLE, side=_SIDE)) for _ in range(_ALTERATIONS)]
    versions_ANF = torch.stack(versions)
    means_NF = versions_ANF.mean(0)
    centre_F = means_NF.mean(0)
    within_FF = _scatter((versions_ANF - means_NF).flatten(0, 1))
    between_FF = _scatter(means_NF - centre_F)
    noise = within_FF.diagonal().mean()
    within_FF = (1 - _SHRINKAGE) * within_FF + _SHRINKAGE * noise * torch.eye(len(within_FF))
    variances_F, axes_FF = torch.linalg.eigh(within_FF)
    whitening_FF = axes_FF / variances_F.sqrt()
    ratios_F, rotation_FF = torch.linalg.eigh(whitening_FF.T @ between_FF @ whitening_FF)
    ratios_D = ratios_F[-WIDTH:].clamp_min(0)
    # A direction counts by how sure it is: variance between pictures, over that and the variance by alteration.
    directions_FD = whitening_FF @ rotation_FF[:, -WIDTH:] * (ratios_D / (1 + ratios_D)).sqrt()
    return Descriptor(centre_F, directions_FD)


def _flat(small_NHH: Tensor) -> Tensor:
    """Local contrast, faded towards the edges, as unit vectors (N, F)."""
    local_NHH = flattened(small_NHH, sigma=2.0, reach=3.0)
    fade_H = torch.hann_window(_SIDE + 2, periodic=False)[1:-1].sqrt()
    return functional.normalize((local_NHH * fade_H[:, None] * fade_H).flatten(1), dim=1)


def _altered(pictures_NSS: Tensor, generator: torch.Generator) -> Tensor:
    count = len(pictures_NSS)
    cuts_N4 = (2 * torch.rand(count, 4, generator=generator) - 1) * _SHIFT
    degrees_N = (2 * torch.rand(count, generator=generator) - 1) * _TURN
    return resample(pictures_NSS, turned(window_maps(cuts_N4), degrees_N))


def _scatter(rows_NF: Tensor) -> Tensor:
    return rows_NF.T @ rows_NF / len(rows_NF)
