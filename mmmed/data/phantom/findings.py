"""The six findings of the phantom: how each is drawn by lot, what shape it has and where it lies.

Every case carries all six as *potential* findings, each with its side, severity and shape; `present` says which
are really there. The same case with one finding switched off is therefore a true counterfactual: nothing else
in the body or on the film changes.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmmed.data.phantom.anatomy import LUNGS, MIDLINE, SIZE, Anatomy, Lung, Points, outward, place
from mmmed.data.phantom.outlines import heart_outline, lung_outline, smooth, wall

Kind = Literal["effusion", "cardiomegaly", "opacity", "nodule", "pneumothorax", "device"]
KINDS: tuple[Kind, ...] = ("effusion", "cardiomegaly", "opacity", "nodule", "pneumothorax", "device")
GRADED: tuple[Kind, ...] = ("effusion", "cardiomegaly", "opacity", "pneumothorax")

Severity = Literal["mild", "moderate", "severe"]
SEVERITIES: tuple[Severity, ...] = ("mild", "moderate", "severe")
Side = Literal["left", "right", "both"]
Device = Literal["central line", "PICC", "pacemaker", "endotracheal tube"]
DEVICES: tuple[Device, ...] = ("central line", "PICC", "pacemaker", "endotracheal tube")
Zone = Literal["upper", "mid"]

SIDES: dict[Kind, tuple[Side, ...]] = {
    "effusion": ("left", "right", "both"),
    "cardiomegaly": (),
    "opacity": ("left", "right", "both"),
    "nodule": ("left", "right"),
    "pneumothorax": ("left", "right"),
    "device": ("left", "right"),
}
"""The sides a finding can be on; an empty tuple for one that has no side."""

_EFFUSION_HEIGHT = (38.0, 60.0, 88.0)
_HEART_RATIO = (0.575, 0.635, 0.70)
_OPACITY_RADIUS = (20.0, 25.0, 31.0)
_NODULE_RADIUS = (9.0, 12.0, 15.0)
_PNEUMOTHORAX_DEPTH = (17.0, 27.0, 40.0)


class Box(NamedTuple):
    """A rectangle in film pixels: from (x0, y0), up to but without (x1, y1)."""

    x0: int
    y0: int
    x1: int
    y1: int


class Lesion(NamedTuple):
    """One lesion in the chest frame: height of an effusion, radius of an opacity or nodule, depth of a collapse,
    or the heart's ratio, as `size`; `x` and `y` are its centre where it has one."""

    lung: Lung
    x: float
    y: float
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One potential finding of a case.

    Args:
        kind: Which of the six.
        present: Whether it is really there.
        side: The patient's side, or none for a finding of the midline.
        severity: Grade of its size; a device has none.
        zone: Which lung zone an opacity or a nodule lies in.
        device: Which support device.
        lesions: Its shapes, one per side.
    """

    kind: Kind
    present: bool
    side: Side | None = None
    severity: Severity | None = None
    zone: Zone | None = None
    device: Device | None = None
    lesions: tuple[Lesion, ...] = ()

    @property
    def truth(self) -> str:
        """The finding in one word for an attribute: its side, ``"present"`` if it has none, or ``"absent"``."""
        return (self.side or "present") if self.present else "absent"


def _lungs(side: Side) -> tuple[Lung, ...]:
    return LUNGS if side == "both" else (side,)


def sample_findings(
    generator: np.random.Generator, *, anatomy: Anatomy, prevalence: dict[Kind, float]
) -> tuple[Finding, ...]:
    """Draw the six potential findings in the order of `KINDS`; presence is drawn last, so that it moves nothing."""
    grade = {kind: int(generator.integers(3)) for kind in KINDS}
    side = {kind: SIDES[kind][int(generator.choice(len(SIDES[kind])))] for kind in KINDS if SIDES[kind]}
    device = DEVICES[int(generator.integers(len(DEVICES)))]
    zones: tuple[Zone, Zone] = ("upper", "mid") if generator.random() < 0.5 else ("mid", "upper")
    depth = _PNEUMOTHORAX_DEPTH[grade["pneumothorax"]] * float(generator.uniform(0.95, 1.1))
    collapse = {lung: depth if lung == side["pneumothorax"] else 0.0 for lung in LUNGS}

    def parenchymal(lung: Lung, *, zone: Zone, radius: float) -> Lesion:
        # Inside the part of the lung that would stay inflated beside the case's potential pneumothorax.
        y = anatomy.apex + float(generator.uniform(34, 44) if zone == "upper" else generator.uniform(74, 92))
        inner, outer = 36.0 + 0.4 * radius, wall(anatomy, y) - collapse[lung] - 0.8 * radius
        distance = float(generator.uniform(inner, max(outer, inner + 4)))
        return Lesion(lung, MIDLINE + outward(lung) * distance, y, radius)

    jitter = float(generator.uniform(0.93, 1.07))
    effusion = tuple(
        Lesion(lung, 0.0, 0.0, _EFFUSION_HEIGHT[grade["effusion"]] * jitter) for lung in _lungs(side["effusion"])
    )
    heart = Lesion("left", 0.0, 0.0, _HEART_RATIO[grade["cardiomegaly"]] + 0.2 * (jitter - 1))
    opacity = tuple(
        parenchymal(lung, zone=zones[0], radius=_OPACITY_RADIUS[grade["opacity"]] * jitter)
        for lung in _lungs(side["opacity"])
    )
    nodule = tuple(
        parenchymal(lung, zone=zones[1], radius=_NODULE_RADIUS[grade["nodule"]] * jitter)
        for lung in _lungs(side["nodule"])
    )
    collapsed = tuple(Lesion(lung, 0.0, 0.0, depth) for lung in _lungs(side["pneumothorax"]))
    device_side = None if device == "endotracheal tube" else side["device"]
    line = Lesion("right" if device_side == "right" else "left", 0.0, 0.0, 0.0)
    present = {kind: bool(generator.random() < prevalence[kind]) for kind in KINDS}

    def finding(kind: Kind, lesions: tuple[Lesion, ...], zone: Zone | None = None) -> Finding:
        return Finding(
            kind=kind,
            present=present[kind],
            side=side.get(kind),
            severity=SEVERITIES[grade[kind]],
            zone=zone,
            lesions=lesions,
        )

    return (
        finding("effusion", effusion),
        finding("cardiomegaly", (heart,)),
        finding("opacity", opacity, zones[0]),
        finding("nodule", nodule, zones[1]),
        finding("pneumothorax", collapsed),
        Finding(kind="device", present=present["device"], side=device_side, device=device, lesions=(line,)),
    )


def meniscus(anatomy: Anatomy, lesion: Lesion, distance: NDArray[np.floating]) -> NDArray[np.floating]:
    """The y of an effusion's upper border at distances from the midline: it climbs towards the chest wall."""
    square = np.clip(distance / anatomy.half_width, 0, 1) ** 2
    steep = square * square * square
    rise: NDArray[np.floating] = lesion.size * (0.52 + 0.34 * square + 0.14 * steep * steep)
    return anatomy.angle(lesion.lung) - rise


def collapsed_outline(anatomy: Anatomy, lesion: Lesion) -> Points:
    """The visceral pleura of a lung that has come away from the chest wall, most at the apex and the side."""
    outline = lung_outline(anatomy, lesion.lung)
    hilum = np.array([MIDLINE + outward(lesion.lung) * 16.0, 118.0])
    inward = hilum - outline
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    distance = np.abs(outline[:, 0] - MIDLINE)
    free = np.clip((distance - 16) / 22, 0, 1) * np.clip((anatomy.dome(lesion.lung) - outline[:, 1]) / 45, 0, 1)
    collapsed: Points = outline + inward * (lesion.size * free)[:, None]
    return collapsed


def device_paths(anatomy: Anatomy, finding: Finding) -> tuple[Points, ...]:
    """What a support device is made of: the course of its line, lead or tube; a pacemaker's box comes first."""
    away = outward(finding.lesions[0].lung)
    apex, base = anatomy.apex, anatomy.left_dome
    cava = MIDLINE - anatomy.mediastinum + 4

    def beside(offset: float) -> float:
        return MIDLINE + away * offset

    if finding.device == "endotracheal tube":
        return (smooth(np.array([(129.0, -14.0), (127.5, 12.0), (127.0, apex), (127.0, apex + 33)])),)
    if finding.device == "central line":
        if away < 0:
            course = [(104.0, -14.0), (109.0, 12.0), (cava - 1, apex + 22), (cava, 88.0), (cava + 1, 122.0)]
        else:
            course = [
                (150.0, -14.0),
                (146.0, 14.0),
                (142.0, apex + 16),
                (128.0, apex + 34),
                (cava, 92.0),
                (cava, 122.0),
            ]
        return (smooth(np.array(course)),)
    if finding.device == "PICC":
        entry = [
            (beside(126), apex + 62),
            (beside(106), apex + 40),
            (beside(80), apex + 18),
            (beside(50), apex + 10),
            (beside(24), apex + 18),
        ]
        return (smooth(np.array([*entry, (cava, apex + 40), (cava, 98.0), (cava + 1, 128.0)])),)
    centre = np.array([beside(68), apex + 27])
    corners = np.array([(-14, -9), (-11, -12), (11, -12), (14, -9), (14, 8), (9, 13), (-9, 13), (-14, 8)], dtype=float)
    lead = [
        (beside(60), apex + 13),
        (beside(44), apex + 8),
        (beside(22), apex + 17),
        (cava, apex + 40),
        (cava - 1, 100.0),
        (cava + 1, 138.0),
        (cava + 18, base - 14),
        (MIDLINE + 26, base - 8),
    ]
    return centre + corners, smooth(np.array(lead))


def _bound(anatomy: Anatomy, points: Points, margin: float) -> Box:
    """The film rectangle around chest-frame points, widened by a margin and cut to the film."""
    placed = place(anatomy, points)
    low = np.clip(np.floor(placed.min(axis=0) - margin), 0, SIZE - 1).astype(int)
    high = np.clip(np.ceil(placed.max(axis=0) + margin), 1, SIZE).astype(int)
    return Box(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _effusion_box(anatomy: Anatomy, lesion: Lesion) -> Box:
    outline = lung_outline(anatomy, lesion.lung)
    border = meniscus(anatomy, lesion, np.abs(outline[:, 0] - MIDLINE))
    return _bound(anatomy, outline[outline[:, 1] >= border], 3)


def _disc_box(anatomy: Anatomy, lesion: Lesion, reach: float) -> Box:
    radius = reach * lesion.size
    corners = [(lesion.x + across * radius, lesion.y + down * radius) for across in (-1, 1) for down in (-1, 1)]
    return _bound(anatomy, np.array(corners), 1)


def _pneumothorax_box(anatomy: Anatomy, lesion: Lesion) -> Box:
    outline, collapsed = lung_outline(anatomy, lesion.lung), collapsed_outline(anatomy, lesion)
    apart = np.linalg.norm(outline - collapsed, axis=1) > 2
    return _bound(anatomy, np.vstack([outline[apart], collapsed[apart]]), 2)


def boxes(anatomy: Anatomy, finding: Finding) -> tuple[Box, ...]:
    """Where a finding lies on the film, one rectangle per lesion; for an absent one, where it would lie."""
    if finding.kind == "effusion":
        return tuple(_effusion_box(anatomy, lesion) for lesion in finding.lesions)
    if finding.kind == "cardiomegaly":
        return (_bound(anatomy, heart_outline(anatomy, finding.lesions[0].size), 3),)
    if finding.kind == "opacity":
        return tuple(_disc_box(anatomy, lesion, 1.35) for lesion in finding.lesions)
    if finding.kind == "nodule":
        return tuple(_disc_box(anatomy, lesion, 1.1) for lesion in finding.lesions)
    if finding.kind == "pneumothorax":
        return tuple(_pneumothorax_box(anatomy, lesion) for lesion in finding.lesions)
    return (_bound(anatomy, np.vstack(device_paths(anatomy, finding)), 4),)
