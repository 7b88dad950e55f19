"""The healthy body, layer by layer."""

import numpy as np

from mmmed.data.phantom.anatomy import LUNGS, MIDLINE, SIZE, Anatomy, outward
from mmmed.data.phantom.frame import Frame, Layer, rise
from mmmed.data.phantom.outlines import clavicle_path, rib_paths, wall
from mmmed.data.phantom.sheet import Sheet, Stroke


def bones(anatomy: Anatomy) -> Layer:
    """Ribs with their brighter cortical edges, [SIZE, SIZE]; where arcs cross they add up."""
    posterior, anterior = Sheet(anatomy), Sheet(anatomy)
    for lung in LUNGS:
        back, front = rib_paths(anatomy, lung)
        posterior.stroke(Stroke(back, 8.0, 255), Stroke(back, 5.8, 175))
        anterior.stroke(Stroke(front, 8.5, 165), Stroke(front, 6.7, 120))
    return posterior.layer() + anterior.layer()


def clavicles(anatomy: Anatomy) -> Layer:
    """Both, with brighter edges, [SIZE, SIZE]."""
    sheet = Sheet(anatomy)
    for lung in LUNGS:
        path = clavicle_path(anatomy, lung)
        sheet.stroke(Stroke(path, 8.5, 255), Stroke(path, 5.5, 170))
    return sheet.layer()


def vessels(anatomy: Anatomy, generator: np.random.Generator) -> Layer:
    """Pulmonary vessels branching and tapering from both hila, [SIZE, SIZE] in [0, 1]."""
    sheet = Sheet(anatomy)
    for lung in LUNGS:
        hilum = np.array([MIDLINE + outward(lung) * 20.0, anatomy.apex + (66.0 if lung == "left" else 71.0)])
        heading = np.linspace(-1.35, 1.45, 9) + generator.normal(0, 0.1, 9)
        start = hilum + np.stack([np.zeros(9), 10 * heading], axis=1)
        length = 0.13 * wall(anatomy, float(hilum[1])) * generator.uniform(0.85, 1.15, 9)
        width = np.full(9, 3.4)
        for level in range(7):
            step = np.stack([outward(lung) * np.cos(heading), np.sin(heading)], axis=1)
            end = start + step * length[:, None]
            sheet.segments(np.stack([start, end], axis=1), width)
            if level % 2:
                spread = generator.uniform(0.15, 0.45, len(heading))
                other = spread * generator.uniform(0.4, 1.0, len(spread))
                heading = np.concatenate([heading - spread, heading + other])
                start, length, width = np.tile(end, (2, 1)), np.tile(length, 2), np.tile(width * 0.68, 2)
            else:
                start, width = end, width * 0.9
            heading = heading + generator.normal(0, 0.16, len(heading))
            length = length * generator.uniform(0.75, 1.05, len(heading))
    return sheet.layer()


def torso(frame: Frame) -> Layer:
    """Soft tissue without any air: thicker in the middle and below the diaphragm, thinner at the neck."""
    anatomy, x, y = frame
    across = (x - np.float32(MIDLINE)) / np.float32(60)
    density = np.float32(0.50) + np.float32(0.10) * np.exp(-across * across)
    belly = rise(y - np.float32(anatomy.right_dome + 16), 16.0)
    density += belly * (0.22 + 0.05 * rise(np.float32(MIDLINE + 20) - x, 20.0))
    density -= 0.08 * rise(26.0 - y, 14.0)
    return density


def add_bubble(density: Layer, frame: Frame, lungs: Layer) -> None:
    """The gas of the stomach under the left hemidiaphragm."""
    anatomy = frame.anatomy
    centre, radii = (MIDLINE + 46, anatomy.left_dome + 19), (1.5 * anatomy.bubble, 0.75 * anatomy.bubble)
    window = frame.window(centre, 1.5 * radii[0], 1.5 * radii[1])
    density[window] -= 0.26 * rise(1 - frame.ellipse(window, centre, radii), 0.35) * (1 - lungs[window])


def add_spine(density: Layer, frame: Frame) -> None:
    """Vertebral bodies, discs, pedicles and spinous processes."""
    window = frame.window((MIDLINE, MIDLINE), 26.0, SIZE)
    off = frame.x[window] - np.float32(MIDLINE)
    phase = np.cos(
        (frame.y[window] - np.float32(frame.anatomy.apex)) * np.float32(2 * np.pi / frame.anatomy.rib_spacing)
    )
    disc, body = np.maximum(phase, 0) ** 2, np.maximum(-phase, 0) ** 2
    column = rise(11.0 - np.abs(off), 1.5)
    process, pedicle = off / np.float32(2.2), (np.abs(off) - np.float32(7.0)) / np.float32(2.0)
    knobs = body * (0.35 * np.exp(-process * process) + 0.25 * np.exp(-pedicle * pedicle))
    density[window] += 0.10 * (column * (0.55 - 0.3 * disc) + knobs)


def add_windpipe(density: Layer, frame: Frame) -> None:
    """The air of the trachea and the main bronchi."""
    carina = np.float32(frame.anatomy.apex + 46)
    window = frame.window((MIDLINE, 40.0), 40.0, 80.0)
    off, y = frame.x[window] - np.float32(MIDLINE - 1), frame.y[window]
    air = rise(4.6 - np.abs(off), 1.2) * rise(carina - y, 3.0)
    for lung, slope in (("left", 1.05), ("right", 0.8)):
        run = off if lung == "left" else -off
        course = np.abs(run - slope * (y - carina + 4))
        air = np.maximum(air, 0.7 * rise(3.2 - course, 1.2) * rise(run, 1.0) * rise(26.0 - run, 4.0))
    density[window] -= 0.17 * air


def add_shoulders(density: Layer, frame: Frame, *, supine: bool) -> None:
    """Humeral heads and shoulder blades; the blades lie over the lungs of a supine patient."""
    anatomy = frame.anatomy
    for lung in LUNGS:
        away = outward(lung)
        head = (MIDLINE + away * 116, anatomy.apex + 18)
        window = frame.window(head, 20.0, 20.0)
        density[window] += 0.10 * rise(1 - frame.ellipse(window, head, (15, 16)), 0.15)
        inner = wall(anatomy, 90.0) + (-12.0 if supine else 6.0)
        window = frame.window((MIDLINE + away * (inner + 12), 82.0), 32.0, 50.0)
        y = frame.y[window]
        depth = (frame.x[window] - np.float32(MIDLINE)) * away - np.float32(inner) + np.float32(0.10) * (y - 60)
        blade = rise(depth, 1.2) * rise(24 - depth, 8.0)
        density[window] += 0.02 * blade * rise(y - 45, 5.0) * rise(120 - y, 6.0)


def add_chest_wall(density: Layer, frame: Frame, *, breast: float) -> None:
    """Breast shadows, or pectoral muscles where there are none."""
    anatomy = frame.anatomy
    for lung in LUNGS:
        if breast:
            centre, radii, strength, softness = (60.0, anatomy.right_dome - 18), (42.0, 40.0), breast, 0.2
        else:
            centre, radii, strength, softness = (82.0, anatomy.apex + 34), (48.0, 40.0), 0.035, 0.3
        placed = (MIDLINE + outward(lung) * centre[0], centre[1])
        window = frame.window(placed, 1.4 * radii[0], 1.4 * radii[1])
        shadow = rise(1 - frame.ellipse(window, placed, radii), softness)
        density[window] += np.float32(strength) * shadow


def hila(frame: Frame) -> Layer:
    """The roots of both lungs, [SIZE, SIZE] in [0, 1]."""
    hila = np.zeros_like(frame.x)
    for lung in LUNGS:
        centre = (MIDLINE + outward(lung) * 25.0, frame.anatomy.apex + (65.0 if lung == "left" else 71.0))
        window = frame.window(centre, 20.0, 34.0)
        hila[window] = np.maximum(hila[window], np.exp(-frame.ellipse(window, centre, (10.0, 17.0))))
    return hila
