"""Learning rate over the steps of a stage."""

import math


def warm_cosine(step: int, *, steps: int, warmup: float, floor: float) -> float:
    """Factor on the learning rate: linear rise over the first `warmup` of all steps, cosine fall to `floor`.

    Source: Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5, without restarts.
    """
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    progress = min(1.0, (step - rise) / max(1, steps - rise))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
