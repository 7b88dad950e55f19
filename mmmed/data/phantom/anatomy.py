"""The body of a phantom patient: a handful of numbers, which its outlines follow from (`outlines.py`).

All shapes are described in a chest frame of 256 x 256 units, upright and centred, with y pointing down and
the midline at x = 128. `place` carries chest-frame points to the pixels of the film (rotation, magnification,
shift). As on a real film, the patient's right is on the image's left.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SIZE = 256
MIDLINE = SIZE / 2

Lung = Literal["left", "right"]
LUNGS: tuple[Lung, ...] = ("left", "right")
Sex = Literal["F", "M"]
View = Literal["PA", "AP"]
Habitus = Literal["slim", "medium", "large"]
HABITUS: tuple[Habitus, ...] = ("slim", "medium", "large")

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What makes one film of one patient different from the next; lengths in chest-frame units.

    Args:
        half_width: From the midline to the inner chest wall at its widest.
        apex: y of the lung apices.
        right_dome: y of the top of the right hemidiaphragm.
        left_dome: The same on the left, a little lower.
        heart_ratio: Cardiothoracic ratio without cardiomegaly (below 0.5).
        knob: How far the aortic knob stands out of the mediastinum.
        mediastinum: Half width of the upper mediastinum.
        rib_spacing: Vertical distance between neighbouring ribs.
        rib_drop: How steeply the posterior ribs fall towards the side.
        clavicle_rise: How far the outer end of a clavicle stands above its inner end.
        soft_tissue: Thickness of the chest wall.
        breast: Density of the breast shadows, 0 for none.
        bubble: Radius of the gastric bubble.
        rotation: Degrees, clockwise on the film.
        magnification: Of the chest frame on the film.
        shift_x: Pixels to the right.
        shift_y: Pixels down.
    """

    half_width: float
    apex: float
    right_dome: float
    left_dome: float
    heart_ratio: float
    knob: float
    mediastinum: float
    rib_spacing: float
    rib_drop: float
    clavicle_rise: float
    soft_tissue: float
    breast: float
    bubble: float
    rotation: float
    magnification: float
    shift_x: float
    shift_y: float

    def angle(self, lung: Lung) -> float:
        """The y of the costophrenic angle."""
        return self.dome(lung) + 28.0

    def dome(self, lung: Lung) -> float:
        """The y of the top of the hemidiaphragm."""
        return self.left_dome if lung == "left" else self.right_dome


def sample_anatomy(
    patient: np.random.Generator, *, film: np.random.Generator, sex: Sex, age: int, habitus: Habitus, view: View
) -> Anatomy:
    """Draw a body from the patient's generator, and its posture and breathing from the film's."""
    build = HABITUS.index(habitus)
    half_width = patient.normal(95.0, 2.5) + (1.5 if sex == "M" else -1.5)
    apex = patient.normal(36.0, 1.5)
    dome = patient.normal(177.0, 3.0)
    heart_ratio = float(np.clip(patient.normal(0.435, 0.015), 0.40, 0.465))
    knob = 6.0 + 0.06 * age + patient.normal(0.0, 0.8)
    mediastinum = patient.normal(16.0, 1.0)
    rib_spacing = patient.normal(15.8, 0.4)
    rib_drop = patient.normal(22.0, 3.0)
    soft_tissue = (9.0, 15.0, 24.0)[build] + patient.normal(0.0, 1.5)
    breast = float(np.clip(patient.normal((0.07, 0.10, 0.13)[build], 0.015), 0.04, 0.16)) if sex == "F" else 0.0
    bubble = float(np.clip(patient.normal(11.0, 3.0), 5.0, 17.0))
    supine = view == "AP"
    breath = film.normal(-5.0 if supine else 0.0, 2.0)
    return Anatomy(
        half_width=float(np.clip(half_width, 89.0, 102.0)),
        apex=float(apex),
        right_dome=float(dome + breath),
        left_dome=float(dome + breath + patient.uniform(3.0, 8.0)),
        heart_ratio=heart_ratio + (0.015 if supine else 0.0),
        knob=float(knob),
        mediastinum=float(mediastinum + (1.5 if supine else 0.0)),
        rib_spacing=float(rib_spacing),
        rib_drop=float(rib_drop - (5.0 if supine else 0.0)),
        clavicle_rise=float(film.normal(16.0 if supine else 9.0, 3.0)),
        soft_tissue=float(soft_tissue),
        breast=breast,
        bubble=bubble,
        rotation=float(np.clip(film.normal(0.0, 1.5), -4.0, 4.0)),
        magnification=float(np.clip(film.normal(1.03 if supine else 1.0, 0.02), 0.95, 1.08)),
        shift_x=float(np.clip(film.normal(0.0, 3.0), -7.0, 7.0)),
        shift_y=float(np.clip(film.normal(0.0, 3.0), -7.0, 7.0)),
    )


def outward(lung: Lung) -> int:
    """Sign of the image's x that leads away from the midline: the patient's left is on the image's right."""
    return 1 if lung == "left" else -1


def place(anatomy: Anatomy, points: Points) -> Points:
    """Carry chest-frame points [N, 2] to film pixels [N, 2]."""
    angle = math.radians(anatomy.rotation)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    shift = np.array([MIDLINE + anatomy.shift_x, MIDLINE + anatomy.shift_y])
    placed: Points = (points - MIDLINE) @ turn * anatomy.magnification + shift
    return placed


def chest_grid(anatomy: Anatomy) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The chest-frame x and y of every film pixel, each [SIZE, SIZE]: the inverse of `place`."""
    angle = math.radians(anatomy.rotation)
    axis = np.arange(SIZE, dtype=np.float32) - np.float32(MIDLINE) + np.float32(0.5)
    across = ((axis - np.float32(anatomy.shift_x)) / np.float32(anatomy.magnification))[None, :]
    down = ((axis - np.float32(anatomy.shift_y)) / np.float32(anatomy.magnification))[:, None]
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    x = across * cosine + down * sine + np.float32(MIDLINE)
    y = down * cosine - across * sine + np.float32(MIDLINE)
    return x, y
