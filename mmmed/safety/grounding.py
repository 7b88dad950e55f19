"""Whether answers come from the image, and from the place in it where the finding lies.

Legend of array names: N items, T tally columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageDraw

from mmmed.errors import DataError
from mmmed.evaluation.controls import control_named
from mmmed.evaluation.metrics.tally import FloatArray, ratio
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.task import Task
from mmmed.records import Example, LazyImage
from mmmed.safety.check import Subject
from mmmed.safety.measure import Measure, estimate
from mmmed.transforms import Fit

_RED, _GREEN = (215, 48, 39), (26, 152, 80)
_STRONGEST = 150
"""Of 255, so that the image stays visible under the map."""


@dataclass(kw_only=True)
class ImageReliance:
    """Measures how much of what is left to gain the true image adds over another patient's, or none.

    0 says that the image is not used, 1 that everything the model knows beyond the control comes from it.

    Args:
        task: Task file of closed questions about images.
        control: What stands in the place of the image: `shuffled`, `blank`, `noise` or `absent`.
        at_least: Least reliance that is allowed; without it nothing passes.
    """

    task: str
    control: str = "shuffled"
    at_least: float | None = None

    @property
    def title(self) -> str:
        """What is asked."""
        return f"Do the answers come from the image? ({self.control})"

    def examine(self, subject: Subject) -> list[Measure]:
        """One measure."""
        task = subject.task(self.task)
        asked = task.examples()
        own = subject.answers(task, asked)
        changed = control_named(self.control)(asked)
        other = subject.answers(task, asked, seen=changed, name=self.control)
        return [reliance(own, other, control=self.control, at_least=self.at_least)]


def reliance(
    own: Sequence[Prediction], other: Sequence[Prediction], *, control: str, at_least: float | None
) -> Measure:
    """The share of the errors under a control that the true image takes away.

    Raises:
        DataError: The two did not answer the same items.
    """
    if [one.id for one in own] != [one.id for one in other]:
        raise DataError(f"the answers with the image and under {control} are not to the same items")
    right = np.array(
        [[one.answer == one.reference, two.answer == two.reference, 1.0] for one, two in zip(own, other, strict=True)]
    )

    def gained(totals: FloatArray) -> FloatArray:
        return ratio(totals[..., 0] - totals[..., 1], totals[..., 2] - totals[..., 1])

    found = estimate(right, [one.patient for one in own], value_of=gained, bounds=(-1.0, 1.0))
    return Measure.of(
        found,
        name=f"share of the errors under {control} images that the true image takes away",
        n=len(own),
        expected=1.0,
        least=at_least,
        items=(one.id for one, two in zip(own, other, strict=True) if one.answer == two.answer),
        note="the items are those whose answer stays as it was",
    )


@runtime_checkable
class Boxed(Protocol):
    """An image that says where a finding lies, in its own pixels."""

    def boxes(self, topic: str) -> Sequence[tuple[int, int, int, int]]:
        """Rectangles from (x0, y0) up to, but without, (x1, y1)."""
        ...


@dataclass(frozen=True, slots=True)
class Occluded:
    """An image with one square painted over in its mean grey."""

    image: LazyImage
    square: tuple[int, int, int, int]

    @property
    def name(self) -> str:
        """That of the image and the square."""
        return f"{self.image.name}~occluded{self.square}"

    def open(self) -> Image.Image:
        """Decode and paint. Raises `ImageError` as the image itself does."""
        picture = self.image.open().copy()
        grey = (
            np.asarray(picture, dtype=np.float64)
            .reshape(picture.height * picture.width, -1)
            .mean(0)
            .round()
            .astype(int)
        )
        picture.paste(int(grey[0]) if picture.mode == "L" else tuple(grey.tolist()), self.square)
        return picture


class Place(NamedTuple):
    """What hiding each square of a grid does to one answer: the drop in its probability, (grid, grid)."""

    example: Example
    drops: FloatArray
    squares: list[tuple[int, int, int, int]]


@dataclass(kw_only=True)
class Occlusion:
    """Measures whether the square whose hiding weakens the answer most lies on the finding.

    Args:
        task: Task file of yes/no questions about images that know the place of what is asked about.
        images: Most images that are tried.
        grid: Squares to a side.
        at_least: Least share of hits beyond that of a square drawn at random.

    Source: Zeiler & Fergus 2014, ECCV, section 4.2 (occlusion); Zhang et al. 2018, Int. J. Comput. Vis. 126:1084-1102
    (the pointing game).
    """

    task: str
    images: int = 16
    grid: int = 4
    at_least: float | None = None

    @property
    def title(self) -> str:
        """What is asked."""
        return "Does the model look where the finding is?"

    def examine(self, subject: Subject) -> list[Measure]:
        """The hits minus those of chance."""
        task = subject.task(self.task)
        chosen = [one for one in task.examples() if one.reference == "yes" and boxes_of(one)][: self.images]
        if not chosen:
            raise DataError(f"task {task.name}: no image says where a finding lies; leave the check out")
        subject.answers(task, chosen)
        places = occlude(subject, task, chosen, grid=self.grid)
        for place in places:
            subject.evidence.maps[f"{place.example.source}:{place.example.id}"] = overlay(place)
        return [pointing(places, at_least=self.at_least)]


def occlude(subject: Subject, task: Task, examples: Sequence[Example], *, grid: int) -> list[Place]:
    """Hide each square of each example's first image in turn."""
    squares = {one.id: squares_of(one.images[0].open().size, grid) for one in examples}
    asked, seen = [], []
    for one in examples:
        for number, square in enumerate([None, *squares[one.id]]):
            asked.append(replace(one, id=f"{one.id}/{number}"))
            first = one.images[0] if square is None else Occluded(one.images[0], square)
            seen.append(replace(asked[-1], images=(first, *one.images[1:])))
    answers = iter(subject.answers(task, asked, seen=seen, name="occluded"))
    places = []
    for one in examples:
        shares = [next(answers).options[one.reference] for _ in range(grid * grid + 1)]
        drops = shares[0] - np.array(shares[1:])
        places.append(Place(one, drops.reshape(grid, grid), squares[one.id]))
    return places


def pointing(places: Sequence[Place], *, at_least: float | None) -> Measure:
    """How often the strongest square touches a box, minus the share of squares that do."""
    rows, missed = [], []
    for place in places:
        touches = np.array([any(_overlap(square, box) for box in boxes_of(place.example)) for square in place.squares])
        hit = bool(touches[int(place.drops.argmax())])
        rows.append([float(hit), float(touches.mean()), 1.0])
        if not hit:
            missed.append(f"{place.example.source}:{place.example.id}")

    def beyond(totals: FloatArray) -> FloatArray:
        return ratio(totals[..., 0] - totals[..., 1], totals[..., 2])

    patients = [place.example.patient for place in places]
    found = estimate(rows, patients, value_of=beyond, bounds=(-1.0, 1.0))
    hits, chance = (float(np.mean([row[place] for row in rows])) for place in (0, 1))
    return Measure.of(
        found,
        name="hits of the square that matters most, beyond chance",
        n=len(places),
        expected=1.0 - chance,
        least=at_least,
        items=missed,
        note=f"{hits:.2f} of the squares lie on the finding; of squares drawn at random {chance:.2f} would",
    )


def overlay(place: Place) -> Image.Image:
    """The image with what matters in red, the more the stronger, and the finding's boxes in green."""
    picture = place.example.images[0].open().convert("RGB")
    values = np.clip(place.drops, 0, None).ravel()
    strengths = (values / values.max(initial=1e-12) * _STRONGEST).astype(int).tolist()
    red = Image.new("RGB", picture.size, _RED)
    mask = Image.new("L", picture.size, 0)
    for square, strength in zip(place.squares, strengths, strict=True):
        mask.paste(strength, square)
    drawn = Image.composite(red, picture, mask)
    pen = ImageDraw.Draw(drawn)
    for x0, y0, x1, y1 in boxes_of(place.example):
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=_GREEN, width=max(1, max(picture.size) // 128))
    return drawn


def boxes_of(example: Example) -> list[tuple[int, int, int, int]]:
    """Where what is asked about lies on the first image; nothing where the image does not know it."""
    image = example.images[0] if example.images else None
    return [tuple(box) for box in image.boxes(example.topic)] if isinstance(image, Boxed) else []


def squares_of(size: tuple[int, int], grid: int, *, fit: Fit = "stretch") -> list[tuple[int, int, int, int]]:
    """The rectangles of a picture that the places of a grid stand for, row by row; empty ones lie beside it.

    Args:
        size: Width and height of the picture.
        grid: Places to a side.
        fit: How the picture was made the square that the grid lies on.
    """
    spans = []
    for length in size:
        side = {"stretch": length, "crop": min(size)}.get(fit, max(size))
        edges = np.linspace(0, side, grid + 1) + (length - side) / 2
        spans.append(edges.round().clip(0, length).astype(int).tolist())
    columns, rows = spans
    return [(columns[x], rows[y], columns[x + 1], rows[y + 1]) for y in range(grid) for x in range(grid)]


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    return max(first[0], second[0]) < min(first[2], second[2]) and max(first[1], second[1]) < min(first[3], second[3])
