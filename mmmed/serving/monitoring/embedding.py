"""What a log keeps of an encoder's features: few numbers, from which no picture can be drawn again.

Legend of array names: N studies, W width of the features, K width of the sketch.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WIDTH = 64
_SEED = 20261128


def sketch(features_W: NDArray[np.floating]) -> tuple[float, ...]:
    """Mean features of a picture, cast onto 64 fixed random directions and rounded to three digits.

    Distances stay nearly what they are, and the same features give the same sketch everywhere and for ever. It is made
    of the mean over the picture's tokens, (W,).

    Source: Johnson & Lindenstrauss 1984, Contemp. Math. 26:189-206.
    """
    cast_K = np.asarray(features_W, dtype=np.float64) @ _directions(len(features_W))
    return tuple(float(f"{value:.3g}") for value in cast_K)


@lru_cache(maxsize=4)
def _directions(width: int) -> NDArray[np.float64]:
    directions: NDArray[np.float64] = np.random.default_rng((_SEED, width)).standard_normal((width, WIDTH))
    return directions / math.sqrt(WIDTH)
