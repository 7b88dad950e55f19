"""Turn a phantom case into a film: 256 x 256 pixels of 8-bit grey that read as a frontal chest radiograph.

Densities add up layer by layer as attenuation does (soft tissue, then air, bone, vessels, lesions, metal), and a
film curve turns the sum into grey. Shapes are drawn at twice the size and averaged down, which smooths their edges;
small shapes are computed in a window around them only, for speed.
"""

import numpy as np
from PIL import Image

from mmmed.data.phantom.anatomy import LUNGS, chest_grid
from mmmed.data.phantom.body import (
    add_bubble,
    add_chest_wall,
    add_shoulders,
    add_spine,
    add_windpipe,
    bones,
    clavicles,
    hila,
    torso,
    vessels,
)
from mmmed.data.phantom.case import Case
from mmmed.data.phantom.exposure import expose, lead_tag
from mmmed.data.phantom.findings import Finding, Kind
from mmmed.data.phantom.frame import Frame, Layer, rise, soft_noise
from mmmed.data.phantom.lesions import add_effusion, add_nodule, add_opacity, add_pneumothorax, device
from mmmed.data.phantom.outlines import body_outline, heart_outline, lung_outline, mediastinum_outline
from mmmed.data.phantom.sheet import mask

RENDER_VERSION = 1
"""Raise it whenever the same case would give other pixels: cached films of another version are not used."""


def render(case: Case, *, tag: bool = False) -> Image.Image:
    """Render a case to a film of mode "L", the same for the same case on every run.

    Args:
        case: What to show.
        tag: Whether to put the planted lead tag on the film.
    """
    body, film = np.random.default_rng((case.seed, case.index, RENDER_VERSION)).spawn(2)
    grey = expose(case, _density(case, body), film)
    if tag:
        grey = np.maximum(grey, lead_tag())
    return Image.fromarray(np.round(255 * grey).astype(np.uint8))


def _density(case: Case, generator: np.random.Generator) -> Layer:
    """The summed attenuation of the body with its findings, [SIZE, SIZE]; 0 for air."""
    anatomy = case.anatomy
    frame = Frame(anatomy, *chest_grid(anatomy))
    present: dict[Kind, Finding] = {finding.kind: finding for finding in case.findings if finding.present}
    vessel_noise, lung_noise, opacity_noise, nodule_noise = generator.spawn(4)

    ratio = present["cardiomegaly"].lesions[0].size if "cardiomegaly" in present else anatomy.heart_ratio
    heart = mask(anatomy, heart_outline(anatomy, ratio))
    central = np.maximum(heart, mask(anatomy, mediastinum_outline(anatomy)))
    cavity = {lung: mask(anatomy, lung_outline(anatomy, lung)) for lung in LUNGS}
    lungs = np.maximum(cavity["left"], cavity["right"])
    air = lungs * (1 - 0.93 * central)

    density = torso(frame)
    solid = density.copy()
    add_bubble(density, frame, lungs)
    base_haze = np.clip((frame.y - np.float32(anatomy.apex + 70)) * np.float32(0.10 / 90), 0, 0.10)
    above = 1 - 0.8 * rise(frame.y - np.float32(anatomy.left_dome + 3), 5.0)
    density += 0.20 * central * above + 0.06 * heart * lungs - air * (0.42 - base_haze)
    add_spine(density, frame)
    add_windpipe(density, frame)
    density += bones(anatomy) * (0.03 + 0.085 * air) + 0.12 * clavicles(anatomy)
    add_shoulders(density, frame, supine=case.view == "AP")

    inflated = lungs * (1 - 0.85 * central)
    if "pneumothorax" in present:
        lesion = present["pneumothorax"].lesions[0]
        inflated *= add_pneumothorax(density, frame, lesion, cavity=cavity[lesion.lung], air=air)
    texture = 0.012 * soft_noise(lung_noise, 4)
    density += (0.15 * vessels(anatomy, vessel_noise) + 0.13 * hila(frame) + texture) * inflated
    for lesion in present["opacity"].lesions if "opacity" in present else ():
        add_opacity(density, frame, lesion, lungs=inflated, generator=opacity_noise)
    for lesion in present["nodule"].lesions if "nodule" in present else ():
        add_nodule(density, frame, lesion, generator=nodule_noise)
    for lesion in present["effusion"].lesions if "effusion" in present else ():
        add_effusion(density, frame, lesion, cavity=cavity[lesion.lung], solid=solid)
    add_chest_wall(density, frame, breast=anatomy.breast)
    density *= mask(anatomy, body_outline(anatomy))
    if "device" in present:
        density += 0.42 * device(anatomy, present["device"])
    return density
