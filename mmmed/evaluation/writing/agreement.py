"""How far raters agree beyond chance: Krippendorff's alpha.

Legend of array names: U units, R raters, V values.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmmed.evaluation.statistics import Estimate, FloatArray, interval_of

Level = Literal["nominal", "ordinal", "interval", "ratio"]
DRAWS = 1000


def krippendorff_alpha(ratings_UR: FloatArray, *, level: Level) -> float:
    """1 for raters who agree in everything, 0 for raters who agree as by chance; not a number without a disagreement
    that could have been.

    Units that fewer than two raters rated tell nothing and are left out.

    Args:
        ratings_UR: Not a number where a rater gave none.
        level: Of measurement, which says how far two values are apart.

    Source: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections C to E.
    """
    told_UR = ratings_UR[np.isfinite(ratings_UR).sum(axis=1) >= 2]
    values_V = np.unique(told_UR[np.isfinite(told_UR)])
    together_VV = np.zeros((len(values_V), len(values_V)))
    for row_R in told_UR:
        counts_V = (row_R[np.isfinite(row_R), None] == values_V).sum(axis=0).astype(np.float64)
        pairs_VV = np.outer(counts_V, counts_V) - np.diag(counts_V)
        together_VV += pairs_VV / (counts_V.sum() - 1)
    totals_V = together_VV.sum(axis=0)
    expected_VV = np.outer(totals_V, totals_V) - np.diag(totals_V)
    apart_VV = _apart(values_V, totals_V, level)
    expected = float((expected_VV * apart_VV).sum())
    if not expected:
        return float("nan")
    return 1 - (float(totals_V.sum()) - 1) * float((together_VV * apart_VV).sum()) / expected


def alpha_estimate(ratings_UR: FloatArray, *, level: Level, seed: int = 0) -> Estimate:
    """Alpha with its 95 % interval over resampled units."""
    generator = np.random.default_rng(seed)
    units = len(ratings_UR)
    drawn = np.array(
        [
            krippendorff_alpha(ratings_UR[generator.integers(0, units, units)], level=level)
            for _ in range(DRAWS if units else 0)
        ]
    )
    value = krippendorff_alpha(ratings_UR, level=level)
    return interval_of(value, drawn, patients=units, support=units, bounds=(-1.0, 1.0))


def _apart(values_V: FloatArray, totals_V: FloatArray, level: Level) -> NDArray[np.float64]:
    """The square of how far any two values are apart."""
    one_VV, other_VV = values_V[:, None], values_V[None, :]
    if level == "nominal":
        return np.asarray(one_VV != other_VV, dtype=np.float64)
    if level == "interval":
        return np.asarray((one_VV - other_VV) ** 2, dtype=np.float64)
    if level == "ratio":
        whole_VV = np.where(one_VV + other_VV == 0, 1, one_VV + other_VV)
        return np.asarray(((one_VV - other_VV) / whole_VV) ** 2, dtype=np.float64)
    # Ranks: half of each end, and all that lies between.
    middle_V = np.cumsum(totals_V) - totals_V / 2
    return np.asarray((middle_V[:, None] - middle_V[None, :]) ** 2, dtype=np.float64)
