"""Turn a phantom case into a film: 256 x 256 pixels of 8-bit grey that read as a frontal chest radiograph.

Densities add up layer by layer as attenuation does (soft tissue, then air, bone, vessels, lesions, metal), and a
film curve turns the sum into grey. Shapes are drawn at twice the size and averaged down, which smooths their edges;
small shapes are computed in a window around them only, for speed.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmmed.data.phantom.anatomy import (
    LUNGS,
    MIDLINE,
    SIZE,
    Anatomy,
    Lung,
    Points,
    body_outline,
    chest_grid,
    clavicle_path,
    heart_outline,
    lung_outline,
    mediastinum_outline,
    outward,
    place,
    rib_paths,
    wall,
)
from mmmed.data.phantom.case import Case
from mmmed.data.phantom.findings import Finding, Kind, Lesion, collapsed_outline, device_paths, meniscus

RENDER_VERSION = 1
"""Raise it whenever the same case would give other pixels: cached films of another version are not used."""

_SCALE = 2
_FILM_SHOULDER = 1.4

Layer = NDArray[np.floating]
Window = tuple[slice, slice]


class _Frame(NamedTuple):
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


class _Stroke(NamedTuple):
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


class _Sheet:
    """A sheet to draw chest-frame shapes on at twice the film's size; only the part they cover is ever made."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._anatomy = anatomy
        self._polygons: list[tuple[Points, int]] = []
        self._lines: list[tuple[Points, Points]] = []

    def fill(self, points: Points, level: int = 255) -> "_Sheet":
        """Fill a closed outline [N, 2], or each of several [M, N, 2]."""
        placed = place(self._anatomy, points) * _SCALE
        self._polygons.append((placed.reshape(-1, *points.shape[-2:]), level))
        return self

    def stroke(self, *strokes: _Stroke) -> "_Sheet":
        """Draw curves; a stroke of several curves [M, N, 2] is laid down before the next stroke."""
        for points, width, level in strokes:
            self.fill(_band(points, width), level)
        return self

    def segments(self, ends: Points, widths: Points) -> "_Sheet":
        """Draw straight segments [N, 2, 2], the thicker the brighter, over all that is filled."""
        self._lines.append((place(self._anatomy, ends.reshape(-1, 2)).reshape(-1, 2, 2) * _SCALE, widths))
        return self

    def layer(self) -> Layer:
        """Average down to [SIZE, SIZE] in [0, 1]."""
        layer = np.zeros((SIZE, SIZE), dtype=np.float32)
        box = self._covered()
        if box.right <= box.left or box.bottom <= box.top:
            return layer
        window = slice(box.top // _SCALE, box.bottom // _SCALE), slice(box.left // _SCALE, box.right // _SCALE)
        layer[window] = _as_layer(self._drawn(box).reduce(_SCALE))
        return layer

    def _covered(self) -> _Box:
        """What the shapes cover of the sheet, in whole pixels of the film."""
        widest = max((int(widths.max()) for _, widths in self._lines), default=0)
        corners = np.concatenate([points.reshape(-1, 2) for points, _ in (*self._polygons, *self._lines)])
        low = np.floor(corners.min(0) / _SCALE).astype(int) - 2 - widest
        high = np.ceil(corners.max(0) / _SCALE).astype(int) + 2 + widest
        (left, top), (right, bottom) = (np.clip(edges, 0, SIZE) * _SCALE for edges in (low, high))
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
                draw.line(line, fill=min(255, int(70 + 45 * width)), width=max(1, round(width * _SCALE)))
        return image


def _as_layer(film: Image.Image) -> Layer:
    # One pass from bytes to [0, 1]; asking Pillow for float32 would take three.
    grey = np.frombuffer(film.tobytes(), dtype=np.uint8).reshape(film.height, film.width)
    return np.multiply(grey, np.float32(1 / 255), dtype=np.float32)


def _mask(anatomy: Anatomy, outline: Points) -> Layer:
    return _Sheet(anatomy).fill(outline).layer()


def _soften(layer: Layer) -> Layer:
    """Blur by a Gaussian of about 0.7 pixels."""
    blurred = layer.copy()
    blurred[1:-1] = 0.5 * layer[1:-1] + 0.25 * (layer[:-2] + layer[2:])
    across = blurred.copy()
    across[:, 1:-1] = 0.5 * blurred[:, 1:-1] + 0.25 * (blurred[:, :-2] + blurred[:, 2:])
    return across


def _rise(value: Layer, softness: float) -> Layer:
    """A step from 0 to 1 around value 0, `softness` units wide."""
    step: Layer = np.tanh(value * np.float32(1 / softness)) * np.float32(0.5) + np.float32(0.5)
    return step


def _enlarge(layer: Layer, factor: int) -> Layer:
    """Enlarge a coarse layer smoothly and cut it to [SIZE, SIZE]."""
    rows, columns = layer.shape
    film = Image.fromarray(layer).resize((columns * factor, rows * factor), Image.Resampling.BILINEAR)
    return np.asarray(film, dtype=np.float32)[:SIZE, :SIZE]


def _soft_noise(generator: np.random.Generator, coarseness: int) -> Layer:
    """Smooth noise of about unit variance whose grains are `coarseness` pixels wide."""
    cells = SIZE // coarseness + 2
    return _enlarge(generator.standard_normal((cells, cells), dtype=np.float32), coarseness)


def _bones(anatomy: Anatomy) -> Layer:
    """Ribs with their brighter cortical edges, [SIZE, SIZE]; where arcs cross they add up."""
    posterior, anterior = _Sheet(anatomy), _Sheet(anatomy)
    for lung in LUNGS:
        back, front = rib_paths(anatomy, lung)
        posterior.stroke(_Stroke(back, 8.0, 255), _Stroke(back, 5.8, 175))
        anterior.stroke(_Stroke(front, 8.5, 165), _Stroke(front, 6.7, 120))
    return posterior.layer() + anterior.layer()


def _clavicles(anatomy: Anatomy) -> Layer:
    sheet = _Sheet(anatomy)
    for lung in LUNGS:
        path = clavicle_path(anatomy, lung)
        sheet.stroke(_Stroke(path, 8.5, 255), _Stroke(path, 5.5, 170))
    return sheet.layer()


def _vessels(anatomy: Anatomy, generator: np.random.Generator) -> Layer:
    """Pulmonary vessels branching and tapering from both hila, [SIZE, SIZE] in [0, 1]."""
    sheet = _Sheet(anatomy)
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


def _torso(frame: _Frame) -> Layer:
    """Soft tissue without any air: thicker in the middle and below the diaphragm, thinner at the neck."""
    anatomy, x, y = frame
    across = (x - np.float32(MIDLINE)) / np.float32(60)
    density = np.float32(0.50) + np.float32(0.10) * np.exp(-across * across)
    belly = _rise(y - np.float32(anatomy.right_dome + 16), 16.0)
    density += belly * (0.22 + 0.05 * _rise(np.float32(MIDLINE + 20) - x, 20.0))
    density -= 0.08 * _rise(26.0 - y, 14.0)
    return density


def _add_bubble(density: Layer, frame: _Frame, lungs: Layer) -> None:
    """The gas of the stomach under the left hemidiaphragm."""
    anatomy = frame.anatomy
    centre, radii = (MIDLINE + 46, anatomy.left_dome + 19), (1.5 * anatomy.bubble, 0.75 * anatomy.bubble)
    window = frame.window(centre, 1.5 * radii[0], 1.5 * radii[1])
    density[window] -= 0.26 * _rise(1 - frame.ellipse(window, centre, radii), 0.35) * (1 - lungs[window])


def _add_spine(density: Layer, frame: _Frame) -> None:
    """Vertebral bodies, discs, pedicles and spinous processes."""
    window = frame.window((MIDLINE, MIDLINE), 26.0, SIZE)
    off = frame.x[window] - np.float32(MIDLINE)
    phase = np.cos(
        (frame.y[window] - np.float32(frame.anatomy.apex)) * np.float32(2 * np.pi / frame.anatomy.rib_spacing)
    )
    disc, body = np.maximum(phase, 0) ** 2, np.maximum(-phase, 0) ** 2
    column = _rise(11.0 - np.abs(off), 1.5)
    process, pedicle = off / np.float32(2.2), (np.abs(off) - np.float32(7.0)) / np.float32(2.0)
    knobs = body * (0.35 * np.exp(-process * process) + 0.25 * np.exp(-pedicle * pedicle))
    density[window] += 0.10 * (column * (0.55 - 0.3 * disc) + knobs)


def _add_windpipe(density: Layer, frame: _Frame) -> None:
    """The air of the trachea and the main bronchi."""
    carina = np.float32(frame.anatomy.apex + 46)
    window = frame.window((MIDLINE, 40.0), 40.0, 80.0)
    off, y = frame.x[window] - np.float32(MIDLINE - 1), frame.y[window]
    air = _rise(4.6 - np.abs(off), 1.2) * _rise(carina - y, 3.0)
    for lung, slope in (("left", 1.05), ("right", 0.8)):
        run = off if lung == "left" else -off
        course = np.abs(run - slope * (y - carina + 4))
        air = np.maximum(air, 0.7 * _rise(3.2 - course, 1.2) * _rise(run, 1.0) * _rise(26.0 - run, 4.0))
    density[window] -= 0.17 * air


def _add_shoulders(density: Layer, frame: _Frame, *, supine: bool) -> None:
    """Humeral heads and shoulder blades; the blades lie over the lungs of a supine patient."""
    anatomy = frame.anatomy
    for lung in LUNGS:
        away = outward(lung)
        head = (MIDLINE + away * 116, anatomy.apex + 18)
        window = frame.window(head, 20.0, 20.0)
        density[window] += 0.10 * _rise(1 - frame.ellipse(window, head, (15, 16)), 0.15)
        inner = wall(anatomy, 90.0) + (-12.0 if supine else 6.0)
        window = frame.window((MIDLINE + away * (inner + 12), 82.0), 32.0, 50.0)
        y = frame.y[window]
        depth = (frame.x[window] - np.float32(MIDLINE)) * away - np.float32(inner) + np.float32(0.10) * (y - 60)
        blade = _rise(depth, 1.2) * _rise(24 - depth, 8.0)
        density[window] += 0.02 * blade * _rise(y - 45, 5.0) * _rise(120 - y, 6.0)


def _add_chest_wall(density: Layer, frame: _Frame, *, breast: float) -> None:
    """Breast shadows, or pectoral muscles where there are none."""
    anatomy = frame.anatomy
    for lung in LUNGS:
        if breast:
            centre, radii, strength, softness = (60.0, anatomy.right_dome - 18), (42.0, 40.0), breast, 0.2
        else:
            centre, radii, strength, softness = (82.0, anatomy.apex + 34), (48.0, 40.0), 0.035, 0.3
        placed = (MIDLINE + outward(lung) * centre[0], centre[1])
        window = frame.window(placed, 1.4 * radii[0], 1.4 * radii[1])
        shadow = _rise(1 - frame.ellipse(window, placed, radii), softness)
        density[window] += np.float32(strength) * shadow


def _hila(frame: _Frame) -> Layer:
    hila = np.zeros_like(frame.x)
    for lung in LUNGS:
        centre = (MIDLINE + outward(lung) * 25.0, frame.anatomy.apex + (65.0 if lung == "left" else 71.0))
        window = frame.window(centre, 20.0, 34.0)
        hila[window] = np.maximum(hila[window], np.exp(-frame.ellipse(window, centre, (10.0, 17.0))))
    return hila


def _add_pneumothorax(density: Layer, frame: _Frame, lesion: Lesion, *, cavity: Layer, air: Layer) -> Layer:
    """Darken the pleural space, condense the lung that came away and draw its edge.

    Returns:
        Where lung is left, [SIZE, SIZE] in [0, 1]; 1 outside the cavity.
    """
    outline = collapsed_outline(frame.anatomy, lesion)
    retained = _Sheet(frame.anatomy).fill(outline).layer()
    gap = cavity * (1 - retained) * air
    density -= 0.10 * gap
    density += 0.05 * min(lesion.size / 25, 1.4) * retained * air
    apart = np.linalg.norm(outline - lung_outline(frame.anatomy, lesion.lung), axis=1) > 2
    # The outline is closed: begin where the lung still touches, so that its free edge is one run.
    attached = int(np.argmin(apart))
    edge = np.roll(outline, -attached, axis=0)[np.roll(apart, -attached)]
    pleura = _Sheet(frame.anatomy).stroke(_Stroke(edge, 2.0, 255)).layer()
    density += 0.20 * pleura * air
    kept: Layer = 1 - cavity * (1 - retained)
    return kept


def _add_opacity(
    density: Layer, frame: _Frame, lesion: Lesion, *, lungs: Layer, generator: np.random.Generator
) -> None:
    """A patchy consolidation with a soft, irregular border."""
    size = lesion.size
    window = frame.window((lesion.x, lesion.y), 2.0 * size, 2.0 * size)
    patches = np.zeros_like(frame.x[window])
    for _ in range(5):
        shift, turn = 0.5 * size * np.sqrt(generator.random()), generator.uniform(0, 2 * np.pi)
        centre = (float(lesion.x + shift * np.cos(turn)), float(lesion.y + shift * np.sin(turn)))
        radius = float(size * generator.uniform(0.5, 0.75))
        patches = np.maximum(patches, np.exp(-(frame.ellipse(window, centre, (radius, radius)) ** 2)))
    mottle = np.clip(0.9 + 0.25 * _soft_noise(generator, 6)[window], 0.45, 1.15)
    density[window] += 0.42 * patches * mottle * lungs[window]


def _add_nodule(density: Layer, frame: _Frame, lesion: Lesion, *, generator: np.random.Generator) -> None:
    """A round, well-defined shadow, densest in the middle."""
    window = frame.window((lesion.x, lesion.y), 1.6 * lesion.size, 1.6 * lesion.size)
    radii = (float(lesion.size * generator.uniform(0.95, 1.05)), float(lesion.size * generator.uniform(0.95, 1.05)))
    squared = frame.ellipse(window, (lesion.x, lesion.y), radii)
    thickness = 0.8 + 0.2 * np.sqrt(np.clip(1 - squared, 0, 1))
    density[window] += 0.45 * _rise((1 - np.sqrt(squared)) * np.float32(lesion.size), 1.3) * thickness


def _add_effusion(density: Layer, frame: _Frame, lesion: Lesion, *, cavity: Layer, solid: Layer) -> None:
    """Fill the cavity below the meniscus: no air is left there, and its border with the diaphragm is lost."""
    middle = (MIDLINE + outward(lesion.lung) * 54.0, frame.anatomy.angle(lesion.lung) - 0.5 * lesion.size)
    window = frame.window(middle, 60.0, 0.5 * lesion.size + 16)
    distance = (frame.x[window] - np.float32(MIDLINE)) * outward(lesion.lung)
    below = frame.y[window] - meniscus(frame.anatomy, lesion, distance)
    fluid = _rise(below, 1.8) * np.clip(4 * cavity[window], 0, 1)
    density[window] += fluid * np.maximum(solid[window] + np.float32(0.10) - density[window], 0)


def _device(anatomy: Anatomy, finding: Finding) -> Layer:
    """Metal and radio-opaque plastic, [SIZE, SIZE] in [0, 1]."""
    sheet, paths = _Sheet(anatomy), device_paths(anatomy, finding)
    if finding.device == "pacemaker":
        box, lead = paths
        sheet.fill(box, 215).stroke(_Stroke(np.vstack([box, box[:1]]), 1.5, 255))
        sheet.stroke(_Stroke(lead, 2.2, 235), _Stroke(lead[-4:], 4.0, 255))
    elif finding.device == "endotracheal tube":
        sheet.stroke(_Stroke(paths[0], 8.0, 215), _Stroke(paths[0], 4.5, 70), _Stroke(paths[0] + (2.8, 0), 1.6, 255))
    else:
        sheet.stroke(_Stroke(paths[0], 2.8, 235), _Stroke(paths[0][-3:], 4.0, 255))
    return sheet.layer()


def _density(case: Case, generator: np.random.Generator) -> Layer:
    """The summed attenuation of the body with its findings, [SIZE, SIZE]; 0 for air."""
    anatomy = case.anatomy
    frame = _Frame(anatomy, *chest_grid(anatomy))
    present: dict[Kind, Finding] = {finding.kind: finding for finding in case.findings if finding.present}
    vessel_noise, lung_noise, opacity_noise, nodule_noise = generator.spawn(4)

    ratio = present["cardiomegaly"].lesions[0].size if "cardiomegaly" in present else anatomy.heart_ratio
    heart = _mask(anatomy, heart_outline(anatomy, ratio))
    central = np.maximum(heart, _mask(anatomy, mediastinum_outline(anatomy)))
    cavity = {lung: _mask(anatomy, lung_outline(anatomy, lung)) for lung in LUNGS}
    lungs = np.maximum(cavity["left"], cavity["right"])
    air = lungs * (1 - 0.93 * central)

    density = _torso(frame)
    solid = density.copy()
    _add_bubble(density, frame, lungs)
    base_haze = np.clip((frame.y - np.float32(anatomy.apex + 70)) * np.float32(0.10 / 90), 0, 0.10)
    above = 1 - 0.8 * _rise(frame.y - np.float32(anatomy.left_dome + 3), 5.0)
    density += 0.20 * central * above + 0.06 * heart * lungs - air * (0.42 - base_haze)
    _add_spine(density, frame)
    _add_windpipe(density, frame)
    density += _bones(anatomy) * (0.03 + 0.085 * air) + 0.12 * _clavicles(anatomy)
    _add_shoulders(density, frame, supine=case.view == "AP")

    inflated = lungs * (1 - 0.85 * central)
    if "pneumothorax" in present:
        lesion = present["pneumothorax"].lesions[0]
        inflated *= _add_pneumothorax(density, frame, lesion, cavity=cavity[lesion.lung], air=air)
    texture = 0.012 * _soft_noise(lung_noise, 4)
    density += (0.15 * _vessels(anatomy, vessel_noise) + 0.13 * _hila(frame) + texture) * inflated
    for lesion in present["opacity"].lesions if "opacity" in present else ():
        _add_opacity(density, frame, lesion, lungs=inflated, generator=opacity_noise)
    for lesion in present["nodule"].lesions if "nodule" in present else ():
        _add_nodule(density, frame, lesion, generator=nodule_noise)
    for lesion in present["effusion"].lesions if "effusion" in present else ():
        _add_effusion(density, frame, lesion, cavity=cavity[lesion.lung], solid=solid)
    _add_chest_wall(density, frame, breast=anatomy.breast)
    density *= _mask(anatomy, body_outline(anatomy))
    if "device" in present:
        density += 0.42 * _device(anatomy, present["device"])
    return density


def _add_lead_letter(grey: Layer, case: Case, generator: np.random.Generator) -> None:
    """The side marker: an R on the patient's right (the image's left) or an L on the image's right."""
    side: Lung = "right" if generator.random() < 0.5 else "left"
    window = slice(0, 40), slice(0, 32) if side == "right" else slice(SIZE - 32, SIZE)
    corner = np.array([9.0 if side == "right" else 12.0, float(generator.uniform(8, 20))])
    strokes = {
        "left": [[(0, 0), (0, 12), (7, 12)]],
        "right": [[(0, 12), (0, 0), (5, 0), (7, 2), (7, 4), (5, 6), (0, 6)], [(3, 6), (8, 12)]],
    }[side]
    image = Image.new("L", (32 * _SCALE, 40 * _SCALE))
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        line = (np.array(stroke) + corner) * _SCALE
        draw.line(line.ravel().tolist(), fill=255, width=4 if case.scanner == "A" else 5)
    grey[window] = np.maximum(grey[window], 0.95 * _as_layer(image.reduce(_SCALE)))


def _lead_tag() -> Layer:
    """The planted shortcut: a small framed lead tag in the lower corner of the film."""
    layer = np.zeros((SIZE, SIZE), dtype=np.float32)
    layer[232:248, 6:38] = 1.0
    layer[235:245, 9:35] = 0.15
    layer[238:242, 12:32:4] = 1.0
    return layer


def _expose(case: Case, density: Layer, generator: np.random.Generator) -> Layer:
    """Turn density into grey in [0, 1], with scatter, blur, grain and an exposure that varies from film to film."""
    low, span = np.float32(generator.normal(0.05, 0.012)), np.float32(generator.normal(1.05, 0.04))
    gamma = np.float32(generator.normal(1.12, 0.07) * (1.0 if case.scanner == "A" else 0.88))
    scatter = _enlarge(density.reshape(8, 32, 8, 32).mean(axis=(1, 3)), 32)
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


def render(case: Case, *, tag: bool = False) -> Image.Image:
    """Render a case to a film of mode "L", the same for the same case on every run.

    Args:
        case: What to show.
        tag: Whether to put the planted lead tag on the film.
    """
    body, film = np.random.default_rng((case.seed, case.index, RENDER_VERSION)).spawn(2)
    grey = _expose(case, _density(case, body), film)
    if tag:
        grey = np.maximum(grey, _lead_tag())
    return Image.fromarray(np.round(255 * grey).astype(np.uint8))
