"""Pictures that are copies of each other but for how they were saved, cropped, turned, brightened or marked."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmmed.data.leakage.descriptor import fit_descriptor
from mmmed.data.leakage.neighbours import Candidates, candidates, pairs_of
from mmmed.data.leakage.registration import agreement

logger = logging.getLogger(__name__)

LEAST_AGREEMENT = 0.7
"""Agreement from which two pictures are held to be one; benchmarks/leakage.py shows how far off others stay."""

NEAREST = 8
"""Pictures that each is compared with closely; four times as many where all of them prove to be copies."""

_MOST_NEAREST = 128
_LEAST_CONTRAST = 2.0


class NearPair(NamedTuple):
    """Two pictures by their place in the list, and how far they agree."""

    first: int
    second: int
    agreement: float


class NearPairs(NamedTuple):
    """All pairs found, how many were looked at closely, and which pictures were too blank to compare."""

    pairs: list[NearPair]
    compared: int
    blank: list[int]


def near_pairs(
    brightness_NSS: NDArray[np.uint8],
    *,
    least: float = LEAST_AGREEMENT,
    also: Sequence[tuple[int, int]] = (),
    seed: int = 0,
) -> NearPairs:
    """Find the copies among thumbnails.

    Args:
        brightness_NSS: The thumbnails.
        least: Agreement from which two pictures are one.
        also: Pairs to compare that somebody else holds to be alike, such as neighbours in an encoder's space.
        seed: Of the descriptor and the clustering.
    """
    is_blank = np.array([one.std() < _LEAST_CONTRAST for one in brightness_NSS], dtype=np.bool_)
    kept = np.flatnonzero(~is_blank)
    blank = np.flatnonzero(is_blank).tolist()
    if len(kept) < 2:
        return NearPairs([], 0, blank)
    thumbnails_NSS = torch.from_numpy(brightness_NSS[kept])
    descriptor = fit_descriptor(thumbnails_NSS, seed=seed)
    scores: dict[tuple[int, int], float] = {}
    if also:
        place = {int(old): new for new, old in enumerate(kept)}
        given = torch.tensor([(place[a], place[b]) for a, b in also if a in place and b in place]).reshape(-1, 2)
        _score(pairs_of(given[:, 0], given[:, 1], thumbnails_NSS, descriptor), thumbnails_NSS, scores)
    looked_up, nearest = torch.arange(len(kept)), NEAREST
    while len(looked_up) and nearest <= _MOST_NEAREST:
        found = candidates(thumbnails_NSS, descriptor, nearest=nearest, looked_up_Q=looked_up, seed=seed)
        _score(found, thumbnails_NSS, scores)
        looked_up = _crowded(scores, found, least=least, nearest=nearest)
        nearest = 4 * nearest if nearest < len(kept) - 1 else _MOST_NEAREST + 1
    pairs = [NearPair(int(kept[a]), int(kept[b]), score) for (a, b), score in sorted(scores.items()) if score >= least]
    return NearPairs(pairs, len(scores), blank)


def _score(found: Candidates, thumbnails_NSS: Tensor, scores: dict[tuple[int, int], float]) -> None:
    """Add the agreement of pairs not compared before; of a pair, the better way round."""
    ends = [(min(a, b), max(a, b)) for a, b in zip(found.first_P.tolist(), found.second_P.tolist(), strict=True)]
    fresh = torch.tensor([pair not in scores for pair in ends], dtype=torch.bool)
    values = agreement(thumbnails_NSS, Candidates(*(each[fresh] for each in found))).tolist()
    for pair, value in zip((pair for pair, new in zip(ends, fresh.tolist(), strict=True) if new), values, strict=True):
        scores[pair] = max(value, scores.get(pair, 0.0))


def _crowded(scores: dict[tuple[int, int], float], found: Candidates, *, least: float, nearest: int) -> Tensor:
    """Pictures with so many copies that there may be more than were looked at."""
    copies: dict[int, int] = {}
    for pair in zip(found.first_P.tolist(), found.second_P.tolist(), strict=True):
        if scores[min(pair), max(pair)] >= least:
            for end in pair:
                copies[end] = copies.get(end, 0) + 1
    return torch.tensor(sorted(place for place, number in copies.items() if number >= nearest), dtype=torch.long)
