"""Where the parts of a chest end: outlines and centre lines, in the chest frame."""

from collections.abc import Sequence

import numpy as np

from mmmed.data.phantom.anatomy import MIDLINE, Anatomy, Lung, Points, outward


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
