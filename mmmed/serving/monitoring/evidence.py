"""Evidence that something has changed: grows while it has, and may be looked at as often as one likes.

Each batch of studies gives a p-value: that of the batch among all studies before it, which is tested by permutation or
exactly. If nothing changes, studies could have come in any other order, and such p-values are independent of each other
and uniform (as those of conformal prediction are). Bets on small p-values then win nothing on average, and the chance
that a bettor's money ever grows by the factor 1 / alpha is at most alpha (Ville's inequality), whenever one stops.

Sources: Vovk, Nouretdinov & Gammerman 2003, ICML, 768-775 (martingales that test exchangeability); Vovk et al. 2021,
PMLR 152:191-210 (their use for change points); Vovk & Wang 2021, Ann. Stat. 49:1736-1754 (calibration of p-values);
Ville 1939, Étude critique de la notion de collectif; Holm 1979, Scand. J. Stat. 6:65-70.

Legend of array names: M members of a group, B batches.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_LEAST = 1e-300


def bet(p: float) -> float:
    """What a unit of money becomes that is put on small p-values: 1 on average if p is uniform.

    The mean over k in [0, 1] of the bets k p^(k-1), so that no k need be chosen.

    Source: Vovk & Wang 2021, Ann. Stat. 49:1736-1754, section 2.
    """
    if p >= 1:
        return 0.5
    p = max(p, _LEAST)
    # Near 1 the closed form loses its digits; its series there is 1/2 + (1 - p) / 3.
    if p > 1 - 1e-4:
        return 0.5 + (1 - p) / 3
    logarithm = math.log(p)
    return (1 - p + p * logarithm) / (p * logarithm**2)


def money(p_B: Sequence[float]) -> FloatArray:
    """What all bettors have together after each batch (B,); not a number in a batch is no bet.

    The bettor of batch s (from 1) begins with 1 / (s (s + 1)), so that all of them together have 1: a change may come
    at any time, and one that comes late is not missed for what was lost while nothing had changed.
    """
    course, running = [], 0.0
    for number, p in enumerate(p_B, 1):
        won = 1.0 if math.isnan(p) else bet(p)
        running = min((running + 1 / (number * (number + 1))) * won, 1 / _LEAST)
        course.append(running + 1 / (number + 1))
    return np.array(course)


def change(p_MB: Sequence[Sequence[float]], *, until: int) -> int:
    """The batch (from 0) since which a group's evidence up to a batch speaks most: the best moment to have begun."""
    won_MB = np.array([[0.0 if math.isnan(p) else math.log(bet(p)) for p in p_B[: until + 1]] for p_B in p_MB])
    return int(np.argmax(np.cumsum(won_MB[:, ::-1], axis=1)[:, ::-1].max(axis=0)))


def adjusted(richest: Mapping[str, float]) -> dict[str, float]:
    """P-values that hold at all times and for all groups at once, from the most money each group has ever had.

    The chance that any group without a change ever falls to alpha or below is at most alpha: 1 / money is a p-value at
    every time, however the groups hang together, and Holm's adjustment is one that can only fall as p-values fall.
    """
    ordered = sorted(richest, key=lambda name: -richest[name])
    found, least = {}, 0.0
    for place, name in enumerate(ordered):
        least = max(least, min(1.0, (len(ordered) - place) / max(richest[name], 1.0)))
        found[name] = least
    return {name: found[name] for name in richest}
