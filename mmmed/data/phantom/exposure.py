"""What the scanner makes of a density: grey, grain and blur, the letter of the side, and the planted tag."""

import numpy as np
from PIL import Image, ImageDraw

from mmmed.data.phantom.anatomy import SIZE, Lung
from mmmed.data.phantom.case import Case
from mmmed.data.phantom.frame import Layer, enlarge
from mmmed.data.phantom.sheet import SCALE, as_layer

_FILM_SHOULDER = 1.4


def expose(case: Case, density: Layer, generator: np.random.Generator) -> Layer:
    """Turn density into grey in [0, 1], with scatter, blur, grain and an exposure that varies from film to film."""
    low, span = np.float32(generator.normal(0.05, 0.012)), np.float32(generator.normal(1.05, 0.04))
    gamma = np.float32(generator.normal(1.12, 0.07) * (1.0 if case.scanner == "A" else 0.88))
    scatter = enlarge(density.reshape(8, 32, 8, 32).mean(axis=(1, 3)), 32)
    seen = 0.93 * _soften(density) + 0.07 * scatter
    if case.scanner == "B":
        seen = _soften(seen)
    seen += np.float32(0.008 if case.scanner == "A" else 0.014) * generator.standard_normal(
        (SIZE, SIZE), dtype=np.float32
    )
    # The shoulder of a film curve: dense parts crowd together instead of all turning white.
    shade = 1 - np.exp(np.clip(seen - low, 0, None) * np.float32(-_FILM_SHOULDER / span))
    grey: Layer = np.clip(shade / np.float32(1 - np.exp(-_FILM_SHOULDER)), 0, 1) ** gamma
    _add_lead_letter(grey, case, generator)
    return grey


def _soften(layer: Layer) -> Layer:
    """Blur by a Gaussian of about 0.7 pixels."""
    blurred = layer.copy()
    blurred[1:-1] = 0.5 * layer[1:-1] + 0.25 * (layer[:-2] + layer[2:])
    across = blurred.copy()
    across[:, 1:-1] = 0.5 * blurred[:, 1:-1] + 0.25 * (blurred[:, :-2] + blurred[:, 2:])
    return across


def _add_lead_letter(grey: Layer, case: Case, generator: np.random.Generator) -> None:
    """The side marker: an R on the patient's right (the image's left) or an L on the image's right."""
    side: Lung = "right" if generator.random() < 0.5 else "left"
    window = slice(0, 40), slice(0, 32) if side == "right" else slice(SIZE - 32, SIZE)
    corner = np.array([9.0 if side == "right" else 12.0, float(generator.uniform(8, 20))])
    strokes = {
        "left": [[(0, 0), (0, 12), (7, 12)]],
        "right": [[(0, 12), (0, 0), (5, 0), (7, 2), (7, 4), (5, 6), (0, 6)], [(3, 6), (8, 12)]],
    }[side]
    image = Image.new("L", (32 * SCALE, 40 * SCALE))
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        line = (np.array(stroke) + corner) * SCALE
        draw.line(line.ravel().tolist(), fill=255, width=4 if case.scanner == "A" else 5)
    grey[window] = np.maximum(grey[window], 0.95 * as_layer(image.reduce(SCALE)))


def lead_tag() -> Layer:
    """The planted shortcut: a small framed lead tag in the lower corner of the film."""
    layer = np.zeros((SIZE, SIZE), dtype=np.float32)
    layer[232:248, 6:38] = 1.0
    layer[235:245, 9:35] = 0.15
    layer[238:242, 12:32:4] = 1.0
    return layer
