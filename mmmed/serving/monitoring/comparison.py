"""P-values of one batch of studies among all that came before, by what kind of thing is compared.

Each holds exactly for any distribution: given all values together, those of the batch are any of them with the same
chance. Ties are broken by chance (`generator`), so that a p-value is uniform and not merely at least so; a p-value that
came out too large would lose evidence in every batch.

Legend of array names: N studies (the earlier ones first), M studies of the batch, K kinds or directions, P studies
of the batch in a fold, H studies of a fold, R permutations, D draws.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import hypergeom, ks_2samp

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DRAWS = 1999
_MOST_EARLIER = 5000
_FOLDS = 5
_RIDGE = 1.0
_TIE = 1e-9


def distribution_p(earlier: FloatArray, batch: FloatArray, generator: np.random.Generator) -> float:
    """Whether a figure is spread otherwise: the Kolmogorov-Smirnov test, exact."""
    return _kolmogorov_smirnov(earlier, batch, generator, alternative="two-sided")


def larger_p(earlier: FloatArray, batch: FloatArray, generator: np.random.Generator) -> float:
    """Whether a figure tends to be larger in the batch: the one-sided Kolmogorov-Smirnov test, exact."""
    return _kolmogorov_smirnov(earlier, batch, generator, alternative="less")


def _kolmogorov_smirnov(
    earlier: FloatArray, batch: FloatArray, generator: np.random.Generator, *, alternative: str
) -> float:
    # The exact distribution is costly beyond this, and what is left out was drawn without regard to its value.
    if len(earlier) > _MOST_EARLIER:
        earlier = generator.choice(earlier, _MOST_EARLIER, replace=False)
    return float(ks_2samp(batch, earlier, alternative=alternative, method="exact").pvalue)


def rate_p(earlier: FloatArray, batch: FloatArray, generator: np.random.Generator) -> float:
    """Whether something is so (1) or not (0) more or less often: Fisher's exact test."""
    least, chances_K = _hits(earlier, batch)
    seen = chances_K[int(batch.sum()) - least]
    return _smoothed(
        float(chances_K[chances_K < seen * (1 - _TIE)].sum()),
        float(chances_K[np.abs(chances_K - seen) <= seen * _TIE].sum()),
        generator,
    )


def more_often_p(earlier: FloatArray, batch: FloatArray, generator: np.random.Generator) -> float:
    """Whether something is so more often in the batch: Fisher's exact test, one-sided."""
    least, chances_K = _hits(earlier, batch)
    place = int(batch.sum()) - least
    return _smoothed(float(chances_K[place + 1 :].sum()), float(chances_K[place]), generator)


def _hits(earlier: FloatArray, batch: FloatArray) -> tuple[int, FloatArray]:
    """The least number of hits that the batch can have, and the chance of that and of each larger number."""
    total, hits, size = len(earlier) + len(batch), int(earlier.sum() + batch.sum()), len(batch)
    least, most = max(0, hits - len(earlier)), min(size, hits)
    return least, np.asarray(hypergeom.pmf(np.arange(least, most + 1), total, hits, size))


def mix_p(earlier: IntArray, batch: IntArray, generator: np.random.Generator) -> float:
    """Whether kinds, numbered from 0, come in other shares: the chi-square statistic, permuted."""
    kinds = int(max(earlier.max(initial=0), batch.max(initial=0))) + 1
    totals_K = np.bincount(earlier, minlength=kinds) + np.bincount(batch, minlength=kinds)
    drawn_RK = generator.multivariate_hypergeometric(totals_K, len(batch), size=DRAWS)
    expected_K = np.maximum(totals_K * len(batch) / totals_K.sum(), _TIE)

    def statistic(counts: NDArray[np.int64]) -> FloatArray:
        return np.asarray(((counts - expected_K) ** 2 / expected_K).sum(-1))

    return _permuted(float(statistic(np.bincount(batch, minlength=kinds))), statistic(drawn_RK), generator)


def smaller_mean_p(earlier: FloatArray, batch: FloatArray, generator: np.random.Generator) -> float:
    """Whether a figure of few possible values, such as a share of six, is smaller on average in the batch; permuted."""
    values_K, places = np.unique(np.concatenate([earlier, batch]), return_inverse=True)
    totals_K = np.bincount(places, minlength=len(values_K))
    drawn_RK = generator.multivariate_hypergeometric(totals_K, len(batch), size=DRAWS)
    return _permuted(-float(batch.sum()), -(drawn_RK @ values_K), generator)


class Domain(NamedTuple):
    """How far a classifier tells a batch from what came before.

    Args:
        p: Of its area under the ROC curve.
        auroc: That area, mean over the folds; one half is guessing.
        scores_N: Of each study, from a classifier that had not seen it; greater is more like the batch.
    """

    p: float
    auroc: float
    scores_N: FloatArray


def domain(
    earlier_NK: FloatArray, batch_MK: FloatArray, generator: np.random.Generator, *, draws: int = DRAWS // 2
) -> Domain:
    """Train a ridge classifier to tell a batch from what came before, cross-fitted, and permute who is in the batch.

    Folds have the same share of the batch each, and permutations stay within folds, which keeps the test exact. The
    classifier's solution is linear in the labels, so that all permutations are trained at once.

    Source: Lopez-Paz & Oquab 2017, ICLR (classifier two-sample tests); Kim et al. 2021, Ann. Stat. 49:411-434.
    """
    values_NK = np.concatenate([earlier_NK, batch_MK])
    deviations_K = values_NK.std(axis=0)
    values_NK = (values_NK - values_NK.mean(axis=0)) / np.where(deviations_K > 0, deviations_K, 1.0)
    # A batch that is too small for two folds is told apart by the very classifier it trained; so are its permutations.
    folds = min(_FOLDS, len(batch_MK))
    own = np.array_split(generator.permutation(np.arange(len(earlier_NK), len(values_NK))), folds)
    others = np.array_split(generator.permutation(len(earlier_NK)), folds)
    held = [np.concatenate(both) for both in zip(own, others, strict=True)]
    # Places in each fold (P, R): those in the batch, then those who might as well have been.
    batches = [
        np.concatenate(
            [np.arange(len(mine))[:, None], _some(len(mine), of=len(part), draws=draws, generator=generator)], axis=1
        )
        for mine, part in zip(own, held, strict=True)
    ]
    inside = [part[batch_PR] for part, batch_PR in zip(held, batches, strict=True)]
    areas_R, scores_N = np.zeros(1 + draws), np.zeros(len(values_NK))
    for fold, part in enumerate(held):
        rest = [place for place in range(folds) if place != fold or folds == 1]
        weights_KR = _ridge(
            values_NK, np.concatenate([held[one] for one in rest]), np.concatenate([inside[one] for one in rest])
        )
        scores_HR = values_NK[part] @ weights_KR
        areas_R += area(scores_HR, np.take_along_axis(scores_HR, batches[fold], axis=0)) / folds
        scores_N[part] = scores_HR[:, 0]
    return Domain(_permuted(float(areas_R[0]), areas_R[1:], generator), float(areas_R[0]), scores_N)


def _some(number: int, *, of: int, draws: int, generator: np.random.Generator) -> IntArray:
    """Different places (number, draws), each set of them with the same chance."""
    places_DP = generator.integers(of, size=(draws, number))
    while True:
        ordered_DP = np.sort(places_DP, axis=1)
        again_D = np.any(ordered_DP[:, 1:] == ordered_DP[:, :-1], axis=1)
        if not again_D.any():
            return np.asarray(places_DP.T)
        places_DP[again_D] = generator.integers(of, size=(int(again_D.sum()), number))


def _ridge(values_NK: FloatArray, rest: IntArray, inside_PR: IntArray) -> FloatArray:
    """Weights (K, R) of ridge regressions of being inside or not, on the studies of `rest`; up to a constant."""
    centred_NK = values_NK[rest] - values_NK[rest].mean(axis=0)
    gram_KK = centred_NK.T @ centred_NK
    gram_KK[np.diag_indices_from(gram_KK)] += _RIDGE * len(gram_KK)
    towards_RK = np.zeros((inside_PR.shape[1], values_NK.shape[1]))
    for inside_R in inside_PR:
        towards_RK += values_NK[inside_R]
    towards_RK -= len(inside_PR) * values_NK[rest].mean(axis=0)
    return np.asarray(cho_solve(cho_factor(gram_KK), towards_RK.T))


def area(scores_HR: FloatArray, own_PR: FloatArray) -> FloatArray:
    """The area under the ROC curve of each column of scores (R,), of which `own_PR` are those to be found."""
    own, others = own_PR.shape[0], scores_HR.shape[0] - own_PR.shape[0]
    wins_R = np.zeros(scores_HR.shape[1])
    for own_R in own_PR:
        wins_R += (own_R > scores_HR).sum(axis=0) + 0.5 * (own_R == scores_HR).sum(axis=0)
    # Those to be found were held against each other and themselves too: half a win for every such pair.
    return np.asarray((wins_R - own**2 / 2) / (own * others))


def _permuted(observed: float, drawn_R: FloatArray, generator: np.random.Generator) -> float:
    """P of a statistic among its permutations, itself counted as one of them."""
    greater = np.count_nonzero(drawn_R > observed + _TIE)
    equal = 1 + np.count_nonzero(np.abs(drawn_R - observed) <= _TIE)
    return _smoothed(greater / (len(drawn_R) + 1), equal / (len(drawn_R) + 1), generator)


def _smoothed(beyond: float, tied: float, generator: np.random.Generator) -> float:
    """The chance of what is beyond, and a random part of that of what is tied; never 0."""
    return min(1.0, beyond + tied * (1.0 - float(generator.random())))
