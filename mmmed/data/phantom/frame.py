"""The chest frame under a film, and smooth layers over it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmmed.data.phantom.anatomy import SIZE, Anatomy, place

Layer = NDArray[np.floating]
Window = tuple[slice, slice]


class Frame(NamedTuple):
    """The chest frame under the film: x and y of every pixel, [SIZE, SIZE] each."""

    anatomy: Anatomy
    x: Layer
    y: Layer

    def window(self, centre: tuple[float, float], across: float, down: float) -> Window:
        """The film pixels within so many chest-frame units of a centre."""
        x, y = place(self.anatomy, np.array([centre]))[0]
        wide, high = across * self.anatomy.magnification + 2, down * self.anatomy.magnification + 2
        left, top = max(0, int(x - wide)), max(0, int(y - high))
        return slice(top, max(top, int(y + high))), slice(left, max(left, int(x + wide)))

    def ellipse(self, window: Window, centre: tuple[float, float], radii: tuple[float, float]) -> Layer:
        """Squared elliptical distance from a centre within a window, 1 on the ellipse."""
        across = (self.x[window] - np.float32(centre[0])) / np.float32(radii[0])
        down = (self.y[window] - np.float32(centre[1])) / np.float32(radii[1])
        distance: Layer = across * across + down * down
        return distance


def rise(value: Layer, softness: float) -> Layer:
    """A step from 0 to 1 around value 0, `softness` units wide."""
    step: Layer = np.tanh(value * np.float32(1 / softness)) * np.float32(0.5) + np.float32(0.5)
    return step


def enlarge(layer: Layer, factor: int) -> Layer:
    """Enlarge a coarse layer smoothly and cut it to [SIZE, SIZE]."""
    rows, columns = layer.shape
    film = Image.fromarray(layer).resize((columns * factor, rows * factor), Image.Resampling.BILINEAR)
    return np.asarray(film, dtype=np.float32)[:SIZE, :SIZE]


def soft_noise(generator: np.random.Generator, coarseness: int) -> Layer:
    """Smooth noise of about unit variance whose grains are `coarseness` pixels wide."""
    cells = SIZE // coarseness + 2
    return enlarge(generator.standard_normal((cells, cells), dtype=np.float32), coarseness)
