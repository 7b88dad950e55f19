"""The body of a phantom patient: a handful of numbers, and the outlines that follow from them.

All shapes are described in a chest frame of 256 x 256 units, upright and centred, with y pointing down and
the midline at x = 128. `place` carries chest-frame points to the pixels of the film (rotation, magnification,
shift). As on a real film, the patient's right is on the image's left.
"""

import math
from collections.abc import Sequence
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


def smooth(control: Points, steps: int = 8) -> Points:
    """Run Catmull-Rom curves through control points [..., K, 2], giving [..., (K - 1) * steps + 1, 2]."""
    first, last = control[..., :1, :], control[..., -1:, :]
    padded = np.concatenate([2 * first - control[..., 1:2, :], control, 2 * last - control[..., -2:-1, :]], axis=-2)
    before, start, end, after = (padded[..., shift : shift + control.shape[-2] - 1, None, :] for shift in range(4))
    t = (np.arange(steps) / steps)[:, None]
    curve = 0.5 * (
        2 * start
        + t * (end - before + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) - before + after)))
    )
    return np.concatenate([curve.reshape(*control.shape[:-2], -1, 2), last], axis=-2)


def _beside(lung: Lung, offsets: Sequence[object]) -> Points:
    """Turn (distance from the midline, y) pairs [..., 2] into chest-frame points on one side."""
    points = np.array(offsets, dtype=np.float64)
    points[..., 0] = MIDLINE + outward(lung) * points[..., 0]
    return points


def wall(anatomy: Anatomy, y: float) -> float:
    """Distance from the midline to the inner chest wall at a height y."""
    apex, low = anatomy.apex, anatomy.right_dome
    heights = (apex, apex + 4, apex + 14, apex + 36, apex + 70, apex + 110, low + 5)
    widths = (0.36, 0.50, 0.65, 0.81, 0.92, 0.98, 1.0)
    return float(np.interp(y, heights, widths)) * anatomy.half_width


def lung_outline(anatomy: Anatomy, lung: Lung) -> Points:
    """The closed outline of an air-filled lung, in three runs: chest wall, diaphragm, mediastinum."""
    width, apex, dome, angle = anatomy.half_width, anatomy.apex, anatomy.dome(lung), anatomy.angle(lung)
    chest_wall = _beside(
        lung,
        [
            (18, apex + 18),
            (22, apex + 5),
            (0.36 * width, apex),
            (0.52 * width, apex + 5),
            (0.67 * width, apex + 16),
            (0.81 * width, apex + 38),
            (0.92 * width, apex + 70),
            (0.98 * width, apex + 110),
            (width, dome + 5),
            (0.985 * width, angle),
        ],
    )
    diaphragm = _beside(
        lung,
        [
            (0.985 * width, angle),
            (0.90 * width, angle - 13),
            (0.72 * width, dome + 4.5),
            (0.52 * width, dome),
            (0.32 * width, dome + 2.5),
            (0.12 * width, dome + 11),
        ],
    )
    medial = _beside(lung, [(0.12 * width, dome + 11), (9, 150), (10, 110), (13, 80), (18, apex + 18)])
    return np.vstack([smooth(run)[:-1] for run in (chest_wall, diaphragm, medial)])


def heart_extent(anatomy: Anatomy, ratio: float) -> tuple[float, float]:
    """How far the heart reaches to the patient's right and left of the midline, for a cardiothoracic ratio."""
    width = ratio * 2 * anatomy.half_width
    return 0.35 * width, 0.65 * width


def heart_outline(anatomy: Anatomy, ratio: float) -> Points:
    """The cardiac silhouette below the great vessels; its width is `ratio` times the inner chest width."""
    right, left = heart_extent(anatomy, ratio)
    floor = anatomy.left_dome + 10
    top = 98.0
    apex_y = anatomy.left_dome - 6
    rest = anatomy.mediastinum
    control = np.array(
        [
            (MIDLINE - rest, top),
            (MIDLINE - rest - 0.22 * (right - rest), top + 0.18 * (apex_y - top)),
            (MIDLINE - 0.86 * right, top + 0.45 * (apex_y - top)),
            (MIDLINE - right, top + 0.74 * (apex_y - top)),
            (MIDLINE - 0.93 * right, apex_y + 3),
            (MIDLINE - 0.74 * right, floor + 8),
            (MIDLINE, floor + 12),
            (MIDLINE + 0.80 * left, floor + 6),
            (MIDLINE + 0.965 * left, apex_y + 6),
            (MIDLINE + left, apex_y - 5),
            (MIDLINE + 0.92 * left, apex_y - 22),
            (MIDLINE + rest + 0.55 * (left - rest), top + 0.42 * (apex_y - top)),
            (MIDLINE + rest + 0.22 * (left - rest), top + 0.17 * (apex_y - top)),
            (MIDLINE + rest + 3, top),
        ]
    )
    return smooth(control)


def mediastinum_outline(anatomy: Anatomy) -> Points:
    """The great vessels: superior vena cava on the patient's right, aortic knob and pulmonary trunk on the left."""
    half, knob = anatomy.mediastinum, anatomy.knob
    right = [
        (half + 5, -20.0),
        (half + 3, 30.0),
        (half - 1, 60.0),
        (half - 1, 85.0),
        (half + 1, 104.0),
        (half + 5, 130.0),
    ]
    left = [
        (half + 8, 130.0),
        (half + 7, 116.0),
        (half + 5.5, 107.0),
        (half + 1.5, 98.0),
        (half + 0.55 * knob, 91.0),
        (half + 0.95 * knob, 82.0),
        (half + 0.75 * knob, 74.0),
        (half + 1, 67.0),
        (half + 0.5, 55.0),
        (half + 4, 30.0),
        (half + 6, -20.0),
    ]
    return np.vstack([smooth(_beside("right", right)), smooth(_beside("left", left))])


def body_outline(anatomy: Anatomy) -> Points:
    """The skin line: neck, shoulders, arms leaving the film, flanks."""
    flank = anatomy.half_width + anatomy.soft_tissue
    one_side = [
        (38.0, -30.0),
        (36.0, 0.0),
        (42.0, 14.0),
        (66.0, 23.0),
        (104.0, 31.0),
        (150.0, 52.0),
        (190.0, 90.0),
        (150.0, 118.0),
        (flank + 5, 108.0),
        (flank + 1, 128.0),
        (flank, 165.0),
        (flank + 2, 215.0),
        (flank + 6, 300.0),
    ]
    return np.vstack([smooth(_beside("left", one_side)), smooth(_beside("right", one_side))[::-1]])


def rib_paths(anatomy: Anatomy, lung: Lung) -> tuple[Points, Points]:
    """Centre lines of the ten posterior arcs and the eight fainter anterior arcs of one side, [ribs, N, 2] each."""
    posterior, anterior = [], []
    for rib in range(10):
        start = anatomy.apex - 2 + rib * anatomy.rib_spacing
        drop = anatomy.rib_drop * (0.45 + 0.16 * min(rib, 6))
        end = start + drop
        reach, low = wall(anatomy, end - 4) + 1.5, wall(anatomy, end + 12) + 1.5
        posterior.append(
            [
                (9, start + 1),
                (0.28 * reach, start - 3),
                (0.58 * reach, start + 0.12 * drop),
                (0.84 * reach, start + 0.52 * drop),
                (reach, end),
            ]
        )
        anterior.append(
            [
                (reach, end),
                (0.985 * low, end + 11),
                (0.86 * low, end + 25),
                (0.66 * low, end + 36),
                (0.44 * low, end + 41),
            ]
        )
    return smooth(_beside(lung, posterior)), smooth(_beside(lung, anterior[:8]))


def clavicle_path(anatomy: Anatomy, lung: Lung) -> Points:
    """Centre line of a clavicle, from the sternum to the shoulder."""
    inner, rise = anatomy.apex + 21, anatomy.clavicle_rise
    return smooth(
        _beside(
            lung,
            [
                (11, inner),
                (28, inner - 0.20 * rise),
                (52, inner - 0.60 * rise - 1),
                (80, inner - rise - 3),
                (108, inner - rise - 6),
            ],
        )
    )
