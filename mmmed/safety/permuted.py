"""P-values of audits, by exchanging what should not matter: who belongs to a group, which of a pair came first.

Legend of array names: B permutations, N items, C clusters, V vignettes.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.evaluation.ranking import BoolArray
from mmmed.evaluation.statistics import TIE
from mmmed.safety.measure import SEED

PERMUTATIONS = 2000
_BLOCK = 500


GapOf = Callable[[FloatArray, FloatArray], FloatArray]


def permuted_gaps(gap_of: GapOf, inside_N: BoolArray, patients: Sequence[str]) -> FloatArray:
    """The difference between a group and all others when nothing but chance says who is in the group (B,).

    Groups are dealt anew to patients. A patient who is in both, as of films of two views, counts as two: since the two
    halves are alike and stand on different sides, the test is then too careful, never too bold.

    Args:
        gap_of: From weights of items in the group and in all others (B, N) to the difference of each row (B,).
        inside_N: Who is in the group.
        patients: Whom each item is about.
    """
    halves = {half: place for place, half in enumerate(dict.fromkeys(zip(patients, inside_N.tolist(), strict=True)))}
    places_N = np.array([halves[half] for half in zip(patients, inside_N.tolist(), strict=True)])
    is_inside_C = np.array([inside for _, inside in halves])
    dealt_BC = is_inside_C[_orders(len(halves))]
    gaps = []
    for start in range(0, PERMUTATIONS, _BLOCK):
        inside_BN = dealt_BC[start : start + _BLOCK, places_N].astype(np.float64)
        gaps.append(gap_of(inside_BN, 1.0 - inside_BN))
    return np.concatenate(gaps)


@lru_cache(maxsize=4)
def _orders(clusters: int) -> NDArray[np.int32]:
    """Random orders of so many clusters (B, C), the same for all groups."""
    generator = np.random.default_rng(SEED)
    orders_BC = np.tile(np.arange(clusters, dtype=np.int32), (PERMUTATIONS, 1))
    return generator.permuted(orders_BC, axis=1)


def two_sided_p(value: float, permuted_B: FloatArray) -> float:
    """How often chance alone goes as far from 0; not a number where it gives none.

    Source: Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39, (1 + count) / (1 + permutations).
    """
    known_B = permuted_B[np.isfinite(permuted_B)]
    if not math.isfinite(value) or not len(known_B):
        return math.nan
    return float((1 + np.count_nonzero(np.abs(known_B) >= abs(value) - TIE)) / (1 + len(known_B)))


def within_pair_p(changes_N: FloatArray, vignettes: Sequence[str]) -> float:
    """Whether changes within pairs lean to one side: the two of a pair are exchanged, vignette by vignette.

    Args:
        changes_N: What changed from the first to the second of each pair.
        vignettes: What each pair is a rewriting of; the pairs of one are exchanged together.
    """
    order = {vignette: place for place, vignette in enumerate(dict.fromkeys(vignettes))}
    sums_V = np.zeros(len(order))
    np.add.at(sums_V, [order[vignette] for vignette in vignettes], changes_N)
    generator = np.random.default_rng(SEED)
    sign_BV = generator.integers(0, 2, (PERMUTATIONS, len(sums_V)), dtype=np.int8) * 2.0 - 1.0
    permuted_B: FloatArray = sign_BV @ sums_V
    return two_sided_p(float(sums_V.sum()), permuted_B)
