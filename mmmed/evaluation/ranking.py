"""Figures of scores that rank: areas under curves over resampled patients, and retrieval with ties.

Letters in array names: B draws, N items, C candidates, G distinct scores.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from mmmed.evaluation.statistics import FloatArray

BoolArray = NDArray[np.bool_]


def weighted_auroc(scores_N: FloatArray, positive_N: BoolArray, weights_BN: FloatArray) -> FloatArray:
    """Area under the ROC curve for each row of item weights (B,); not a number where a class has no weight.

    The share of pairs of a positive and a negative item in which the positive scores higher; a tie counts half.

    Source: Hanley & McNeil 1982, Radiology 143:29-36 (the area as a probability of pairs).
    """
    order = np.argsort(scores_N, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(scores_N[order]) > 0])  # where a score begins that is new
    ups_BG = np.add.reduceat(weights_BN[:, order] * positive_N[order], first, axis=1)
    downs_BG = np.add.reduceat(weights_BN[:, order] * ~positive_N[order], first, axis=1)
    below_BG = np.cumsum(downs_BG, axis=1) - downs_BG
    pairs_B = ups_BG.sum(1) * downs_BG.sum(1)
    with np.errstate(invalid="ignore"):
        areas_B: FloatArray = (ups_BG * (below_BG + downs_BG / 2)).sum(1) / pairs_B
    return areas_B


def weighted_found(
    scores_N: FloatArray, positive_N: BoolArray, weights_BN: FloatArray, *, false_alarms: float
) -> FloatArray:
    """Share of the positive above a threshold that at most so many of the negative reach (B,)."""
    ups_BG, downs_BG = _reached(scores_N, positive_N, weights_BN)
    with np.errstate(invalid="ignore"):
        allowed_BG = downs_BG <= false_alarms * downs_BG[:, -1:]
        found_B: FloatArray = np.where(allowed_BG, ups_BG, 0.0).max(1) / ups_BG[:, -1]
    return found_B


def weighted_false_alarms(
    scores_N: FloatArray, positive_N: BoolArray, weights_BN: FloatArray, *, found: float
) -> FloatArray:
    """Share of the negative above the highest threshold that at least so many of the positive reach (B,)."""
    ups_BG, downs_BG = _reached(scores_N, positive_N, weights_BN)
    with np.errstate(invalid="ignore"):
        enough_BG = ups_BG >= found * ups_BG[:, -1:]
        alarms_B: FloatArray = np.where(enough_BG, downs_BG, np.inf).min(1) / downs_BG[:, -1]
    return alarms_B


def weighted_precision_area(scores_N: FloatArray, positive_N: BoolArray, weights_BN: FloatArray) -> FloatArray:
    """Average precision (B,): the mean over the positive of the precision at their scores.

    Equal scores share one threshold. Source: Davis & Goadrich 2006, ICML (steps instead of straight lines).
    """
    ups_BG, downs_BG = _reached(scores_N, positive_N, weights_BN)
    gained_BG = np.diff(ups_BG, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore"):
        precision_BG = np.nan_to_num(ups_BG / (ups_BG + downs_BG))
        areas_B: FloatArray = (gained_BG * precision_BG).sum(1) / ups_BG[:, -1]
    return areas_B


class _Reached(NamedTuple):
    """Weight of the positive and negative items at or above each distinct score, from the highest down (B, G)."""

    ups_BG: FloatArray
    downs_BG: FloatArray


def _reached(scores_N: FloatArray, positive_N: BoolArray, weights_BN: FloatArray) -> _Reached:
    order = np.argsort(-scores_N, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(scores_N[order]) < 0, True])
    sorted_BN, up_N = weights_BN[:, order], positive_N[order]
    return _Reached(np.cumsum(sorted_BN * up_N, axis=1)[:, last], np.cumsum(sorted_BN * ~up_N, axis=1)[:, last])


def recall_at(similarity_NC: FloatArray, right_NC: BoolArray, *, most: int) -> FloatArray:
    """Chance that a right candidate is among the first `most` of each query (N,), equal similarities in random order.

    Args:
        similarity_NC: Of each query to each candidate.
        right_NC: Which candidates are right; at least one for each query.
        most: How many candidates are looked at.
    """
    best_N1 = np.where(right_NC, similarity_NC, -np.inf).max(1, keepdims=True)
    tied_NC = similarity_NC == best_N1
    left_N = most - (similarity_NC > best_N1).sum(1)
    return chance(tied_NC.sum(1), (tied_NC & right_NC).sum(1), left_N)


def chance(candidates: NDArray[np.int_], right: NDArray[np.int_], drawn: NDArray[np.int_]) -> FloatArray:
    """Probability that some right candidate is among those drawn at random without putting back.

    One minus C(candidates - right, drawn) / C(candidates, drawn): the hypergeometric chance of none.
    """
    drawn = np.clip(drawn, 0, candidates)
    wrong = candidates - right
    none = np.exp(_log_choose(wrong, np.minimum(drawn, wrong)) - _log_choose(candidates, drawn))
    found: FloatArray = np.where(drawn > wrong, 1.0, 1.0 - none)
    return found


def _log_choose(n: NDArray[np.int_], k: NDArray[np.int_]) -> FloatArray:
    logarithm: FloatArray = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logarithm
