"""What is found on a film, drawn over the body."""

import numpy as np

from mmmed.data.phantom.anatomy import MIDLINE, Anatomy, outward
from mmmed.data.phantom.findings import Finding, Lesion, collapsed_outline, device_paths, meniscus
from mmmed.data.phantom.frame import Frame, Layer, rise, soft_noise
from mmmed.data.phantom.outlines import lung_outline
from mmmed.data.phantom.sheet import Sheet, Stroke


def add_pneumothorax(density: Layer, frame: Frame, lesion: Lesion, *, cavity: Layer, air: Layer) -> Layer:
    """Darken the pleural space, condense the lung that came away and draw its edge.

    Returns:
        Where lung is left, [SIZE, SIZE] in [0, 1]; 1 outside the cavity.
    """
    outline = collapsed_outline(frame.anatomy, lesion)
    retained = Sheet(frame.anatomy).fill(outline).layer()
    gap = cavity * (1 - retained) * air
    density -= 0.10 * gap
    density += 0.05 * min(lesion.size / 25, 1.4) * retained * air
    apart = np.linalg.norm(outline - lung_outline(frame.anatomy, lesion.lung), axis=1) > 2
    # The outline is closed: begin where the lung still touches, so that its free edge is one run.
    attached = int(np.argmin(apart))
    edge = np.roll(outline, -attached, axis=0)[np.roll(apart, -attached)]
    pleura = Sheet(frame.anatomy).stroke(Stroke(edge, 2.0, 255)).layer()
    density += 0.20 * pleura * air
    kept: Layer = 1 - cavity * (1 - retained)
    return kept


def add_opacity(density: Layer, frame: Frame, lesion: Lesion, *, lungs: Layer, generator: np.random.Generator) -> None:
    """A patchy consolidation with a soft, irregular border."""
    size = lesion.size
    window = frame.window((lesion.x, lesion.y), 2.0 * size, 2.0 * size)
    patches = np.zeros_like(frame.x[window])
    for _ in range(5):
        shift, turn = 0.5 * size * np.sqrt(generator.random()), generator.uniform(0, 2 * np.pi)
        centre = (float(lesion.x + shift * np.cos(turn)), float(lesion.y + shift * np.sin(turn)))
        radius = float(size * generator.uniform(0.5, 0.75))
        patches = np.maximum(patches, np.exp(-(frame.ellipse(window, centre, (radius, radius)) ** 2)))
    mottle = np.clip(0.9 + 0.25 * soft_noise(generator, 6)[window], 0.45, 1.15)
    density[window] += 0.42 * patches * mottle * lungs[window]


def add_nodule(density: Layer, frame: Frame, lesion: Lesion, *, generator: np.random.Generator) -> None:
    """A round, well-defined shadow, densest in the middle."""
    window = frame.window((lesion.x, lesion.y), 1.6 * lesion.size, 1.6 * lesion.size)
    radii = (float(lesion.size * generator.uniform(0.95, 1.05)), float(lesion.size * generator.uniform(0.95, 1.05)))
    squared = frame.ellipse(window, (lesion.x, lesion.y), radii)
    thickness = 0.8 + 0.2 * np.sqrt(np.clip(1 - squared, 0, 1))
    density[window] += 0.45 * rise((1 - np.sqrt(squared)) * np.float32(lesion.size), 1.3) * thickness


def add_effusion(density: Layer, frame: Frame, lesion: Lesion, *, cavity: Layer, solid: Layer) -> None:
    """Fill the cavity below the meniscus: no air is left there, and its border with the diaphragm is lost."""
    middle = (MIDLINE + outward(lesion.lung) * 54.0, frame.anatomy.angle(lesion.lung) - 0.5 * lesion.size)
    window = frame.window(middle, 60.0, 0.5 * lesion.size + 16)
    distance = (frame.x[window] - np.float32(MIDLINE)) * outward(lesion.lung)
    below = frame.y[window] - meniscus(frame.anatomy, lesion, distance)
    fluid = rise(below, 1.8) * np.clip(4 * cavity[window], 0, 1)
    density[window] += fluid * np.maximum(solid[window] + np.float32(0.10) - density[window], 0)


def device(anatomy: Anatomy, finding: Finding) -> Layer:
    """Metal and radio-opaque plastic, [SIZE, SIZE] in [0, 1]."""
    sheet, paths = Sheet(anatomy), device_paths(anatomy, finding)
    if finding.device == "pacemaker":
        box, lead = paths
        sheet.fill(box, 215).stroke(Stroke(np.vstack([box, box[:1]]), 1.5, 255))
        sheet.stroke(Stroke(lead, 2.2, 235), Stroke(lead[-4:], 4.0, 255))
    elif finding.device == "endotracheal tube":
        sheet.stroke(Stroke(paths[0], 8.0, 215), Stroke(paths[0], 4.5, 70), Stroke(paths[0] + (2.8, 0), 1.6, 255))
    else:
        sheet.stroke(Stroke(paths[0], 2.8, 235), Stroke(paths[0][-3:], 4.0, 255))
    return sheet.layer()
