"""Which pairs of pictures are worth a closer look: the nearest by descriptor, each against windows of the others.

Every picture as a whole is looked up among the windows of all pictures, so that a copy cut to a window lies next to
it. Beyond `EXHAUSTIVE` pictures a lookup goes only to the cells of a coarse clustering that are nearest to it, so that
the work grows as N to the power 1.5 and not as its square.

Letters in tensor names: N pictures, Q looked-up ones, K neighbours, D width of the descriptor, C cells.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

from mmmed.data.leakage.descriptor import Descriptor
from mmmed.data.leakage.windows import windows

EXHAUSTIVE = 5000
"""Pictures up to which every one is compared with every other."""

_PROBED = 0.05
_FEWEST_PROBED = 8
_ROUNDS = 6
_SAMPLE_PER_CELL = 64


class Candidates(NamedTuple):
    """Pairs to look at closely: `first_P` may be a copy of the window `window_P` of `second_P`."""

    first_P: Tensor
    second_P: Tensor
    window_P: Tensor


class _Cells(NamedTuple):
    """A coarse clustering, and the cells that each looked-up picture goes to."""

    centres_CD: Tensor
    visitors_C: list[Tensor]


def candidates(
    thumbnails_NSS: Tensor, descriptor: Descriptor, *, nearest: int, looked_up_Q: Tensor, seed: int = 0
) -> Candidates:
    """The `nearest` pictures of each looked-up one, each pair once.

    Args:
        thumbnails_NSS: All pictures.
        descriptor: What they are compared by.
        nearest: Candidates of each picture.
        looked_up_Q: Indices of the pictures to find copies of.
        seed: Of the clustering.
    """
    whole_ND = descriptor.describe(thumbnails_NSS)
    queries_QD = whole_ND[looked_up_Q]
    nearest = min(nearest, len(thumbnails_NSS) - 1)
    cells = _cells(whole_ND, queries_QD, seed=seed)
    best_QK = torch.full((len(looked_up_Q), nearest), -2.0)
    which_QK = torch.zeros(len(looked_up_Q), nearest, dtype=torch.long)
    window_QK = torch.zeros(len(looked_up_Q), nearest, dtype=torch.long)
    for number, window in enumerate(windows()):
        found_ND = whole_ND if number == 0 else descriptor.describe(thumbnails_NSS, window)
        alike_QK, found_QK = _lookup(queries_QD, looked_up_Q, found_ND, cells, nearest=nearest)
        best_QK, which_QK, window_QK = _merged(
            (best_QK, which_QK, window_QK), (alike_QK, found_QK, torch.full_like(found_QK, number)), nearest=nearest
        )
    first_P = looked_up_Q[:, None].expand_as(which_QK).flatten()
    return _once(first_P, which_QK.flatten(), window_QK.flatten(), best_QK.flatten())


def pairs_of(first_P: Tensor, second_P: Tensor, thumbnails_NSS: Tensor, descriptor: Descriptor) -> Candidates:
    """Given pairs as candidates, each with the window that fits it best."""
    queries_PD = descriptor.describe(thumbnails_NSS[first_P])
    second = thumbnails_NSS[second_P]
    alike_WP = torch.stack([(descriptor.describe(second, window) * queries_PD).sum(1) for window in windows()])
    return Candidates(first_P, second_P, alike_WP.argmax(0))


def _lookup(
    queries_QD: Tensor, own_Q: Tensor, found_ND: Tensor, cells: _Cells, *, nearest: int
) -> tuple[Tensor, Tensor]:
    """The most similar of `found_ND` for each query but itself, as far as its cells reach."""
    best_QK = torch.full((len(queries_QD), nearest), -2.0)
    which_QK = torch.zeros(len(queries_QD), nearest, dtype=torch.long)
    home_N = (found_ND @ cells.centres_CD.T).argmax(1)
    order_N = home_N.argsort(stable=True)
    ends = torch.bincount(home_N, minlength=len(cells.centres_CD)).cumsum(0).tolist()
    for cell, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        members = order_N[start:end]
        for visitors in torch.split(cells.visitors_C[cell], 4096):
            if len(members) == 0 or len(visitors) == 0:
                continue
            alike = queries_QD[visitors] @ found_ND[members].T
            top = alike.topk(min(nearest + 1, len(members)), dim=1)
            found = members[top.indices]
            others = top.values.masked_fill(found == own_Q[visitors][:, None], -2.0)
            joined = torch.cat([best_QK[visitors], others], 1)
            joined_which = torch.cat([which_QK[visitors], found], 1)
            kept = joined.topk(nearest, dim=1)
            best_QK[visitors] = kept.values
            which_QK[visitors] = joined_which.gather(1, kept.indices)
    return best_QK, which_QK


def _merged(
    ours: tuple[Tensor, Tensor, Tensor], theirs: tuple[Tensor, Tensor, Tensor], *, nearest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best of two lists of neighbours, no picture twice."""
    alike, which, window = (torch.cat([our, their], 1) for our, their in zip(ours, theirs, strict=True))
    order = alike.argsort(dim=1, descending=True, stable=True)
    alike, which, window = (values.gather(1, order) for values in (alike, which, window))
    # Stable by picture after being ordered by likeness: the first of a picture's places is its best.
    by_picture = which.argsort(dim=1, stable=True)
    sorted_which = which.gather(1, by_picture)
    repeats = torch.zeros_like(sorted_which, dtype=torch.bool)
    repeats[:, 1:] = sorted_which[:, 1:] == sorted_which[:, :-1]
    alike = alike.masked_fill(torch.zeros_like(repeats).scatter(1, by_picture, repeats), -2.0)
    top = alike.topk(nearest, dim=1).indices
    return alike.gather(1, top), which.gather(1, top), window.gather(1, top)


def _once(first_P: Tensor, second_P: Tensor, window_P: Tensor, alike_P: Tensor) -> Candidates:
    """Each unordered pair once, the way round in which it is most alike."""
    low, high = torch.minimum(first_P, second_P), torch.maximum(first_P, second_P)
    keys = low * (int(high.max()) + 1 if len(high) else 1) + high
    order = alike_P.argsort(descending=True, stable=True)
    order = order[keys[order].argsort(stable=True)]
    is_first = torch.ones(len(order), dtype=torch.bool)
    is_first[1:] = keys[order][1:] != keys[order][:-1]
    chosen = order[is_first & (alike_P[order] > -1.5)]
    return Candidates(first_P[chosen], second_P[chosen], window_P[chosen])


def _cells(whole_ND: Tensor, queries_QD: Tensor, *, seed: int) -> _Cells:
    """Spherical k-means with as many cells as the root of the pictures; one cell for few pictures."""
    count = len(whole_ND)
    if count <= EXHAUSTIVE:
        return _Cells(torch.zeros(1, whole_ND.shape[1]), [torch.arange(len(queries_QD))])
    cells = round(count**0.5)
    generator = torch.Generator().manual_seed(seed)
    sample_ND = whole_ND[torch.randperm(count, generator=generator)[: _SAMPLE_PER_CELL * cells]]
    centres_CD = sample_ND[:cells].clone()
    for _ in range(_ROUNDS):
        home_N = (sample_ND @ centres_CD.T).argmax(1)
        sums_CD = torch.zeros_like(centres_CD).index_add_(0, home_N, sample_ND)
        is_empty_C = torch.bincount(home_N, minlength=cells) == 0
        centres_CD = torch.where(is_empty_C[:, None], centres_CD, functional.normalize(sums_CD, dim=1))
    probed = max(_FEWEST_PROBED, round(_PROBED * cells))
    visited_QP = torch.cat(
        [(chunk @ centres_CD.T).topk(probed, dim=1).indices for chunk in torch.split(queries_QD, 8192)]
    )
    visitor_V = torch.arange(len(queries_QD)).repeat_interleave(probed)
    order_V = visited_QP.flatten().argsort(stable=True)
    sizes = torch.bincount(visited_QP.flatten(), minlength=cells).tolist()
    return _Cells(centres_CD, list(torch.split(visitor_V[order_V], sizes)))
