"""Whether one picture is a copy of another: laid over each other as well as they will go, they agree in every part.

Two films of two patients agree in the large, so agreement of the whole proves nothing. After registration what stands
out from its surroundings is correlated block by block; ribs, vessels and marks of another patient do not fall into
place in most blocks, while text burned into a copy spoils only those it covers.

Letters in tensor names: P pairs, S side of a thumbnail, X pixels of it, 6 the numbers of an affine map.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

from mmmed.data.leakage.neighbours import Candidates
from mmmed.data.leakage.windows import WHOLE, averaged, flattened, window_maps, windows

_CHUNK = 128
_BLOCKS = 8
_LARGEST_STEP = 0.08
# In units of local contrast, which is about one wherever there is anything to see.
_LEAST_SPREAD = 0.02
_LEAST_SHARE = 0.2
# Black and white to this share of the range were cut off, or lie outside the picture: nothing is to be seen there.
_CLIPPED = 0.008


class _Stage(NamedTuple):
    """A few rounds of registration at one size, and the agreement below which a pair is given up."""

    side: int
    rounds: int
    least: float


_STAGES = (_Stage(32, 5, 0.45), _Stage(32, 4, 0.65), _Stage(64, 3, 0.0))


class _View(NamedTuple):
    """Local contrast of pictures, and 1 where there is something to be seen, as the two channels of one tensor."""

    both_P2SS: Tensor

    @property
    def local_PSS(self) -> Tensor:
        return self.both_P2SS[:, 0]

    @property
    def shown_PSS(self) -> Tensor:
        return self.both_P2SS[:, 1]

    def of(self, chosen: Tensor) -> "_View":
        return _View(self.both_P2SS[chosen])

    def through(self, maps_P23: Tensor) -> "_View":
        """What is seen through maps; outside the picture nothing is."""
        side = self.both_P2SS.shape[-1]
        grid_PX2 = _places(side) @ maps_P23.transpose(1, 2)
        grid_PSS2 = grid_PX2.view(-1, side, side, 2)
        return _View(functional.grid_sample(self.both_P2SS, grid_PSS2, align_corners=False))


def agreement(thumbnails_NSS: Tensor, pairs: Candidates) -> Tensor:
    """How far each pair agrees in its parts (P,): 1 for the same picture, 0 for what plainly is another.

    It is the mean of the median and the lower quartile of the blocks' correlations.
    """
    maps = window_maps(torch.tensor(windows()))
    scores = [
        _agreement(thumbnails_NSS, first, second, maps[window])
        for first, second, window in zip(*(torch.split(each, _CHUNK) for each in pairs), strict=True)
    ]
    return torch.cat(scores) if scores else torch.zeros(0)


def _agreement(thumbnails_NSS: Tensor, first_P: Tensor, second_P: Tensor, maps_P23: Tensor) -> Tensor:
    scores_P = torch.zeros(len(first_P))
    left = torch.arange(len(first_P))
    for stage in _STAGES:
        # Pairs come in order, so that the same few pictures stand in many pairs of a chunk.
        needed, place = torch.unique(torch.cat([first_P[left], second_P[left]]), return_inverse=True)
        views = _view(thumbnails_NSS[needed], side=stage.side)
        copy, other = (views.of(each) for each in place.chunk(2))
        maps_P23 = registered(copy, other, maps_P23, rounds=stage.rounds)
        scores_P[left] = _block_correlation(copy, other.through(maps_P23))
        good = scores_P[left] > stage.least
        scores_P[left[~good]] = 0.0
        left, maps_P23 = left[good], maps_P23[good]
        if len(left) == 0:
            break
    return scores_P


@functools.cache
def _places(side: int) -> Tensor:
    """Where pixels lie in the square [-1, 1]² (X, 3), as x, y and 1."""
    place_S = (torch.arange(side) * 2 + 1) / side - 1
    y_SS, x_SS = torch.meshgrid(place_S, place_S, indexing="ij")
    return torch.stack([x_SS, y_SS, torch.ones_like(x_SS)], -1).flatten(0, 1)


def _view(pictures_PSS: Tensor, *, side: int) -> _View:
    pictures = averaged(pictures_PSS.float() / 255, WHOLE, side=side)
    shown = (pictures > _CLIPPED) & (pictures < 1 - _CLIPPED)
    return _View(torch.stack([flattened(pictures, sigma=2.0, reach=3.0), shown.float()], 1))


def registered(copy: _View, other: _View, maps_P23: Tensor, *, rounds: int) -> Tensor:
    """Improve maps from each copy to the other picture, by which the other is brought into the copy's place.

    Pixels that disagree strongly, as under burned-in text, pull little.

    Source: the inverse compositional algorithm, Baker and Matthews, Lucas-Kanade 20 years on, IJCV 56 (2004),
        section 3.2; weights of a Cauchy error.
    """
    count = len(maps_P23)
    steepest_P6X = _steepest(copy.local_PSS)
    copy_PX, shown_PX = copy.local_PSS.flatten(1), copy.shown_PSS.flatten(1)
    damping_P66 = 1e-4 * torch.eye(6)
    last_row = torch.tensor([0.0, 0.0, 1.0]).expand(count, 1, 3)
    inverse_P66: Tensor | None = None
    for _ in range(rounds):
        seen = other.through(maps_P23)
        residual_PX = seen.local_PSS.flatten(1) - copy_PX
        weights_PX = seen.shown_PSS.flatten(1) * shown_PX / (1 + (residual_PX / 1.5) ** 2)
        if inverse_P66 is None:
            # The weights change little from round to round, and what they weigh not at all.
            hessian_P66 = (steepest_P6X * weights_PX[:, None]) @ steepest_P6X.transpose(1, 2)
            diagonal_P66 = torch.diag_embed(hessian_P66.diagonal(dim1=1, dim2=2))
            inverse_P66 = torch.linalg.inv(hessian_P66 + 1e-3 * diagonal_P66 + damping_P66)
        step_P6 = (inverse_P66 @ (steepest_P6X @ (weights_PX * residual_PX)[..., None]))[..., 0]
        step_P23 = step_P6.clamp(-_LARGEST_STEP, _LARGEST_STEP).view(count, 2, 3)
        moved_P33 = torch.eye(3) + functional.pad(step_P23, (0, 0, 0, 1))
        maps_P23 = (torch.cat([maps_P23, last_row], 1) @ torch.linalg.inv(moved_P33))[:, :2]
    return maps_P23


def _steepest(pictures_PSS: Tensor) -> Tensor:
    """How each pixel changes with each number of an affine map (P, 6, X), in units of the square [-1, 1]²."""
    side = pictures_PSS.shape[-1]
    across = functional.pad((pictures_PSS[:, :, 2:] - pictures_PSS[:, :, :-2]) * (side / 4), (1, 1))
    down = functional.pad((pictures_PSS[:, 2:] - pictures_PSS[:, :-2]) * (side / 4), (0, 0, 1, 1))
    place_S = (torch.arange(side) * 2 + 1) / side - 1
    x, y = place_S.expand(side, side), place_S[:, None].expand(side, side)
    return torch.stack([across * x, across * y, across, down * x, down * y, down], 1).flatten(2)


def _block_correlation(copy: _View, seen: _View) -> Tensor:
    both = copy.shown_PSS * (seen.shown_PSS > 0.99)
    copy_PSS, seen_PSS = copy.local_PSS, seen.local_PSS
    values = [both, copy_PSS * both, seen_PSS * both]
    values += [copy_PSS * copy_PSS * both, seen_PSS * seen_PSS * both, copy_PSS * seen_PSS * both]
    means = functional.avg_pool2d(torch.stack(values, 1), copy_PSS.shape[-1] // _BLOCKS).flatten(2)
    share, *sums = means.unbind(1)
    copy_mean, seen_mean, copy_square, seen_square, product = (each / share.clamp_min(1e-6) for each in sums)
    copy_spread, seen_spread = copy_square - copy_mean**2, seen_square - seen_mean**2
    correlation = (product - copy_mean * seen_mean) / (copy_spread * seen_spread).clamp_min(1e-6).sqrt()
    # Blocks with nothing in either picture (black corners, borders) say nothing.
    speaks = (share > 0.5) & (torch.maximum(copy_spread, seen_spread) > _LEAST_SPREAD)
    correlation = correlation.masked_fill(~speaks, float("nan"))
    median, quartile = correlation.nanquantile(torch.tensor([0.5, 0.25]), dim=1)
    is_enough = speaks.float().mean(1) >= _LEAST_SHARE
    return torch.where(is_enough, (median + quartile) / 2, torch.zeros_like(median))
