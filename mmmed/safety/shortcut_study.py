"""A shortcut planted in rising doses, and whether what an audit finds rises with it.

Legend of array names: N films.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmmed.data.phantom.case import Planted
from mmmed.data.source import read
from mmmed.data.sources.phantom import PhantomImage, PhantomSource
from mmmed.data.splits import Fractions
from mmmed.errors import ConfigError
from mmmed.evaluation.arms import linear_probe
from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.evaluation.predictions import Prediction
from mmmed.evaluation.task import read_described
from mmmed.inference.session import Session
from mmmed.page.files import replace_text
from mmmed.records import Example
from mmmed.safety.measure import Measure, mean_estimate
from mmmed.safety.subgroups import gaps

TAGS = ("no", "yes")


@dataclass(kw_only=True)
class ShortcutStudy:
    """A study of phantom films, on some of which lies a lead tag that goes with a finding.

    For each dose, a linear probe learns to tell the finding from the features of a frozen encoder. In training the tag
    is by so much more frequent on films with the finding; in the test it says nothing. Each test film is then shown
    twice, with the tag and without.

    Args:
        name: Of the study.
        checkpoint: Whose vision encoder is used; it learns nothing here.
        finding: What the tag goes with.
        doses: P(tag | present) - P(tag | absent) in training, in rising order.
        count: Films.
        seed: Of the films.
        cache: Folder of the films.
        fractions: Share of the patients in each split.

    Raises:
        ConfigError: The doses do not rise.
    """

    name: str
    checkpoint: str
    finding: str = "effusion"
    doses: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0])
    count: int = 1000
    seed: int = 0
    cache: str = "outputs/phantoms"
    fractions: Fractions = field(default_factory=lambda: Fractions(train=0.5, validation=0.1, test=0.4))

    def __post_init__(self) -> None:
        if len(self.doses) < 2 or self.doses != sorted(set(self.doses)):
            raise ConfigError(f"doses are {self.doses}; expected two or more in rising order")


class Dosed(NamedTuple):
    """What was found at one dose.

    Args:
        dose: Of the shortcut.
        shift_N: Of each test film, the probability of the finding with the tag minus that without.
        patients: Whom the films are of.
        measures: The audit's figures.
    """

    dose: float
    shift_N: FloatArray
    patients: list[str]
    measures: list[Measure]


def load_study(path: str) -> ShortcutStudy:
    """Read a study's file. Raises `ConfigError` naming it."""
    return read_described(path, ShortcutStudy, folder="experiments/")


def run_study(
    study: ShortcutStudy, session: Session, *, tell: Callable[[str], object] = lambda line: None
) -> list[Dosed]:
    """Train and audit a probe for each dose.

    Args:
        study: What is to be done.
        session: The loaded checkpoint.
        tell: Given a line when a dose is done.
    """
    done = []
    for dose in study.doses:
        one = _at(study, session, dose)
        done.append(one)
        tell(f"dose {dose:.2f}: " + "; ".join(f"{each.name} {each.value:.3f}" for each in one.measures))
    return done


def _at(study: ShortcutStudy, session: Session, dose: float) -> Dosed:
    planted = Planted(shortcut=study.finding, shortcut_strength=dose)
    source = PhantomSource(
        study.count,
        seed=study.seed,
        cache=study.cache,
        planted=planted,
        questions=("finding",),
        fractions=study.fractions,
    )
    source.prepare()
    training, test = (
        [one for one in read([source], split).examples if one.topic == study.finding] for split in ("train", "test")
    )
    asked = [shown_with(one, tag) for tag in TAGS for one in test]
    items = linear_probe(session, training, asked, task=study.name, advance=lambda count: None)
    return dosed(dose, items[: len(test)], items[len(test) :])


def shown_with(example: Example, tag: str) -> Example:
    """The same question about the same film, with or without the tag."""
    image = example.images[0]
    assert isinstance(image, PhantomImage), "the films of a phantom source"
    return replace(
        example,
        id=f"{example.id}/tag {tag}",
        images=(replace(image, tag=tag == "yes"),),
        attributes={**example.attributes, "tag": tag},
    )


def dosed(dose: float, without: Sequence[Prediction], with_tag: Sequence[Prediction]) -> Dosed:
    """What the tag does to answers about the same films.

    Args:
        dose: Of the shortcut.
        without: Answers without the tag.
        with_tag: Answers with it, in the same order.
    """
    shift_N = np.array([two.options["yes"] - one.options["yes"] for one, two in zip(without, with_tag, strict=True)])
    patients = [one.patient for one in without]
    right_N = np.array([float(one.answer == one.reference) for one in without])
    both = [*without, *with_tag]
    shift = mean_estimate(shift_N, patients, bounds=(-1.0, 1.0))
    return Dosed(
        dose,
        shift_N,
        patients,
        [
            Measure.of(shift, name="shift of the probability by the tag", n=len(shift_N), expected=0.0),
            *(_with_less_without(both, rate) for rate in ("false_positive", "false_negative")),
            Measure.of(mean_estimate(right_N, patients), name="accuracy without the tag", n=len(right_N), expected=1.0),
        ],
    )


def _with_less_without(items: Sequence[Prediction], rate: str) -> Measure:
    """The audit's gap between films with the tag and those without."""
    (gap,) = gaps(items, by=["tag"], rate=rate, at_most=None, ages=[])  # type: ignore[arg-type]
    # Of two groups the audit gives the first, which is the films without.
    return replace(
        gap,
        name=f"{rate.replace('_', ' ')} rate with the tag minus that without",
        value=-gap.value,
        low=-gap.high,
        high=-gap.low,
        items=(),
    )


def steps(done: Sequence[Dosed]) -> list[Measure]:
    """By how much the shift rises from each dose to the next, on the same films."""
    return [
        Measure.of(
            mean_estimate(two.shift_N - one.shift_N, one.patients, bounds=(-1.0, 1.0)),
            name=f"from dose {one.dose:g} to {two.dose:g}",
            n=len(one.shift_N),
            expected=0.0,
        )
        for one, two in pairwise(done)
    ]


def write_study(folder: Path, study: ShortcutStudy, done: Sequence[Dosed]) -> Path:
    """Write `shortcut.json` and the curve, `shortcut.svg`, whose path is given back."""
    described = asdict(study)
    content = {
        "study": {key: described[key] for key in ("name", "checkpoint", "finding", "doses", "count", "seed")},
        "doses": [{"dose": one.dose, "measures": [_plain(each) for each in one.measures]} for one in done],
        "steps": [_plain(one) for one in steps(done)],
    }
    replace_text(folder / "shortcut.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    path = folder / "shortcut.svg"
    replace_text(path, curve(done))
    return path


def _plain(one: Measure) -> dict[str, object]:
    values = {"value": one.value, "low": one.low, "high": one.high}
    return {"name": one.name, "n": one.n} | {key: round(value, 4) for key, value in values.items()}


_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 560, 340, 64, 24, 56


def curve(done: Sequence[Dosed]) -> str:
    """The shift at each dose with its interval, as SVG."""
    shifts = [one.measures[0] for one in done]
    top = max(0.1, *(one.high for one in shifts)) * 1.08
    bottom = min(-0.02, *(one.low for one in shifts)) * 1.08

    def x(dose: float) -> float:
        return _LEFT + 16 + (_WIDTH - _LEFT - 40) * (dose - done[0].dose) / (done[-1].dose - done[0].dose)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (top - value) / (top - bottom)

    marks = []
    ticks = [
        value for value in np.arange(-1, 1.01, 0.1 if top < 0.6 else 0.2).round(1).tolist() if bottom <= value <= top
    ]
    for value in ticks:
        dash = "" if value == 0 else ' stroke-dasharray="2 4"'
        marks.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#999"{dash}/>'
        )
        marks.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value + 0.0:g}</text>')
    points = " ".join(f"{x(one.dose):.1f},{y(each.value):.1f}" for one, each in zip(done, shifts, strict=True))
    marks.append(f'<polyline points="{points}" fill="none" stroke="#1b6ca8" stroke-width="2"/>')
    for one, each in zip(done, shifts, strict=True):
        at = x(one.dose)
        marks.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(each.low):.1f}" y2="{y(each.high):.1f}" stroke="#1b6ca8" '
            'stroke-width="2"/>'
        )
        marks.append(f'<circle cx="{at:.1f}" cy="{y(each.value):.1f}" r="4" fill="#1b6ca8"/>')
        marks.append(f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{one.dose:.0%}</text>')
    middle = (_LEFT + _WIDTH) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="13">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
        f"<title>Shift of the probability of the finding by the tag, by dose</title>{''.join(marks)}"
        f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">dose of the shortcut in training</text>'
        f'<text x="14" y="{_HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {_HEIGHT / 2})">'
        "shift of the probability by the tag</text></svg>\n"
    )
