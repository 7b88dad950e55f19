"""Shapes of the chest frame, drawn at twice the size of a film and averaged down, which smooths their edges."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mmmed.data.phantom.anatomy import SIZE, Anatomy, Points, place
from mmmed.data.phantom.frame import Layer

SCALE = 2


class Stroke(NamedTuple):
    """A curve [N, 2], or several [M, N, 2], with its width in units of the chest frame and its grey level."""

    points: Points
    width: float
    level: int


def _band(points: Points, width: float) -> Points:
    """The closed outlines of curves [..., N, 2] of a given width, [..., 2 N, 2]."""
    step = points[..., 1:, :] - points[..., :-1, :]
    along = np.concatenate([step[..., :1, :], step[..., 1:, :] + step[..., :-1, :], step[..., -1:, :]], axis=-2)
    length = np.hypot(along[..., 0], along[..., 1])[..., None]
    across = along[..., ::-1] * (-0.5 * width, 0.5 * width) / length
    return np.concatenate([points + across, (points - across)[..., ::-1, :]], axis=-2)


class _Box(NamedTuple):
    """Part of a sheet, in its pixels; the far edges lie outside."""

    left: int
    top: int
    right: int
    bottom: int


class Sheet:
    """A sheet to draw on; only the part that shapes cover is ever made."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._anatomy = anatomy
        self._polygons: list[tuple[Points, int]] = []
        self._lines: list[tuple[Points, Points]] = []

    def fill(self, points: Points, level: int = 255) -> "Sheet":
        """Fill a closed outline [N, 2], or each of several [M, N, 2]."""
        placed = place(self._anatomy, points) * SCALE
        self._polygons.append((placed.reshape(-1, *points.shape[-2:]), level))
        return self

    def stroke(self, *strokes: Stroke) -> "Sheet":
        """Draw curves; a stroke of several curves [M, N, 2] is laid down before the next stroke."""
        for points, width, level in strokes:
            self.fill(_band(points, width), level)
        return self

    def segments(self, ends: Points, widths: Points) -> "Sheet":
        """Draw straight segments [N, 2, 2], the thicker the brighter, over all that is filled."""
        self._lines.append((place(self._anatomy, ends.reshape(-1, 2)).reshape(-1, 2, 2) * SCALE, widths))
        return self

    def layer(self) -> Layer:
        """Average down to [SIZE, SIZE] in [0, 1]."""
        layer = np.zeros((SIZE, SIZE), dtype=np.float32)
        box = self._covered()
        if box.right <= box.left or box.bottom <= box.top:
            return layer
        window = slice(box.top // SCALE, box.bottom // SCALE), slice(box.left // SCALE, box.right // SCALE)
        layer[window] = as_layer(self._drawn(box).reduce(SCALE))
        return layer

    def _covered(self) -> _Box:
        """What the shapes cover of the sheet, in whole pixels of the film."""
        widest = max((int(widths.max()) for _, widths in self._lines), default=0)
        corners = np.concatenate([points.reshape(-1, 2) for points, _ in (*self._polygons, *self._lines)])
        low = np.floor(corners.min(0) / SCALE).astype(int) - 2 - widest
        high = np.ceil(corners.max(0) / SCALE).astype(int) + 2 + widest
        (left, top), (right, bottom) = (np.clip(edges, 0, SIZE) * SCALE for edges in (low, high))
        return _Box(int(left), int(top), int(right), int(bottom))

    def _drawn(self, box: _Box) -> Image.Image:
        # Pillow cuts coordinates to whole pixels, so moving all of them by whole pixels changes no shape.
        corner = np.array([box.left, box.top])
        image = Image.new("L", (box.right - box.left, box.bottom - box.top))
        draw = ImageDraw.Draw(image)
        for points, level in self._polygons:
            for outline in (points - corner).reshape(len(points), -1).tolist():
                draw.polygon(outline, fill=level)
        for ends, widths in self._lines:
            moved = (ends - corner).reshape(-1, 4).tolist()
            for line, width in zip(moved, widths.tolist(), strict=True):
                draw.line(line, fill=min(255, int(70 + 45 * width)), width=max(1, round(width * SCALE)))
        return image


def as_layer(film: Image.Image) -> Layer:
    """A film of mode "L" as a layer in [0, 1]."""
    # One pass from bytes to [0, 1]; asking Pillow for float32 would take three.
    grey = np.frombuffer(film.tobytes(), dtype=np.uint8).reshape(film.height, film.width)
    return np.multiply(grey, np.float32(1 / 255), dtype=np.float32)


def mask(anatomy: Anatomy, outline: Points) -> Layer:
    """Where a closed outline [N, 2] lies, [SIZE, SIZE] in [0, 1]."""
    return Sheet(anatomy).fill(outline).layer()
