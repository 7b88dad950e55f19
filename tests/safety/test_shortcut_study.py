"""What an audit finds of a planted shortcut rises with its dose, and is nothing without one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmmed.data.sources.phantom import PhantomImage
from mmmed.errors import ConfigError
from mmmed.evaluation.predictions import Prediction
from mmmed.records import Example
from mmmed.safety.shortcut_study import Dosed, ShortcutStudy, curve, dosed, load_study, shown_with, steps, write_study

ROOT = Path(__file__).parents[2]


def answers(make_items: Callable[..., list[Prediction]], dose: float, seed: int) -> Dosed:
    """One who believes the tag as much as the dose says, and otherwise knows a little."""
    generator = np.random.default_rng(seed)
    parts: list[list[Prediction]] = []
    blur = generator.normal(0, 0.2, 300)
    for tag in ("no", "yes"):
        items = make_items([True] * 300, tag=[tag] * 300)
        for item, noise in zip(items, blur + generator.normal(0, 0.02, 300), strict=True):
            known = 0.6 if item.reference == "yes" else 0.4
            yes = float(np.clip(known + noise + 0.3 * dose * (1 if tag == "yes" else -1), 0.01, 0.99))
            item.options.update(yes=yes, no=1 - yes)
            object.__setattr__(item, "answer", "yes" if yes > 0.5 else "no")
        parts.append(items)
    return dosed(dose, *parts)


def test_the_curve_follows_the_dose(make_items: Callable[..., list[Prediction]], tmp_path: Path) -> None:
    done = [answers(make_items, dose, seed) for seed, dose in enumerate((0.0, 0.25, 0.5, 0.75, 1.0))]
    shifts, alarms, missed = (np.array([one.measures[place].value for one in done]) for place in range(3))
    assert (np.diff(shifts) > 0).all()
    assert (np.diff(alarms) > 0).all(), "the tag raises false alarms"
    assert (np.diff(missed) < 0).all(), "and finds what is there"
    assert done[0].measures[0].low <= 0 <= done[0].measures[0].high
    assert all(one.low > 0 for one in steps(done))
    study = ShortcutStudy(name="small", checkpoint="x")
    path = write_study(tmp_path, study, done)
    assert path.read_text().count("<circle") == 5
    assert '"steps"' in (tmp_path / "shortcut.json").read_text()
    assert curve(done[:2]).count("<circle") == 2


def test_without_a_shortcut_nothing_is_found_more_often_than_one_in_twenty(
    make_items: Callable[..., list[Prediction]],
) -> None:
    outside = 0
    for seed in range(10):
        shift = answers(make_items, 0.0, seed).measures[0]
        outside += not shift.low <= 0 <= shift.high
    assert outside <= 2


def test_a_film_is_shown_with_and_without_the_tag(films: list[Example]) -> None:
    without, with_tag = (shown_with(films[0], tag) for tag in ("no", "yes"))
    assert without.attributes["tag"] == "no"
    assert without.id != with_tag.id
    images: Any = [one.images[0] for one in (without, with_tag)]
    assert all(isinstance(one, PhantomImage) for one in images)
    differ = np.asarray(images[0].open()) != np.asarray(images[1].open())
    assert 0 < differ.mean() < 0.01


def test_the_file_of_the_study_is_read_and_doses_rise() -> None:
    assert load_study(str(ROOT / "experiments" / "bias_patterns" / "shortcut.yaml")).doses[-1] == 1.0
    with pytest.raises(ConfigError, match="in rising order"):
        ShortcutStudy(name="x", checkpoint="x", doses=[0.5, 0.25])
