"""Statistics of a picture that tell its machine and its kind apart, and nothing of the patient."""

import numpy as np
from PIL import Image

_BINS = 64


def pixel_statistics(picture: Image.Image) -> dict[str, float]:
    """Brightness, contrast, tails, entropy, sharpness and noise of a picture; grey values in [0, 1].

    `colour` is the mean distance between the channels, `sharpness` the mean step between neighbours, `noise` what a
    median over three neighbours takes away, `black` and `white` the shares of pixels at the ends.
    """
    grey_HW = np.asarray(picture.convert("L"), dtype=np.float32) / 255
    low, middle, high = np.quantile(grey_HW, [0.01, 0.5, 0.99])
    shares = np.histogram(grey_HW, bins=_BINS, range=(0, 1))[0] / grey_HW.size
    shares = shares[shares > 0]
    steps_HW = np.abs(np.diff(grey_HW, axis=1)) if grey_HW.shape[1] > 1 else np.zeros((1, 1), np.float32)
    found = {
        "mean": grey_HW.mean(),
        "deviation": grey_HW.std(),
        "p1": low,
        "median": middle,
        "p99": high,
        "entropy": -(shares * np.log2(shares)).sum(),
        "sharpness": steps_HW.mean(),
        "noise": _noise(grey_HW),
        "black": (grey_HW <= 1 / 255).mean(),
        "white": (grey_HW >= 254 / 255).mean(),
        "colour": _colour(picture),
        "aspect": picture.width / picture.height,
    }
    return {name: round(float(value), 5) for name, value in found.items()}


def _noise(grey_HW: np.ndarray) -> float:
    if grey_HW.shape[1] < 3:
        return 0.0
    three = np.stack([grey_HW[:, :-2], grey_HW[:, 1:-1], grey_HW[:, 2:]])
    return float(np.abs(grey_HW[:, 1:-1] - np.median(three, axis=0)).mean())


def _colour(picture: Image.Image) -> float:
    if picture.mode in {"1", "L", "I", "I;16", "F"}:
        return 0.0
    channels_HWC = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return float((channels_HWC.max(axis=2) - channels_HWC.min(axis=2)).mean())
