"""Strange images are told from usual ones, and worse pictures cost what they cost."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmmed.errors import ConfigError
from mmmed.records import Example, LazyImage
from mmmed.safety.altered import CORRUPTIONS, STRANGE, Changed
from mmmed.safety.check import Subject
from mmmed.safety.measure import Verdict
from mmmed.safety.strange import Corruption, Distance, OutOfDistribution, Strangeness, told_apart

Judge = Callable[..., Subject]
Believe = Callable[..., float]


def pixels(images: Sequence[LazyImage]) -> torch.Tensor:
    values = [np.asarray(image.open().convert("L").resize((64, 64)), dtype=np.float32) / 255 for image in images]
    return torch.tensor(np.stack(values))[:, None]


def coarse(pixels_NCHW: torch.Tensor) -> torch.Tensor:
    """An encoder of one token: the picture at 6 x 6, and how rough it is."""
    rough = (pixels_NCHW[..., 1:] - pixels_NCHW[..., :-1]).abs().mean((1, 2, 3))[:, None, None]
    return torch.cat([functional.adaptive_avg_pool2d(pixels_NCHW, 6).flatten(1)[:, None], rough], dim=-1)


def test_every_strange_kind_is_noticed_by_an_encoder_that_sees(films_task: str, subject: Judge) -> None:
    judged = subject(lambda example: 0.5)
    session: Any = judged.session
    session.model, session.processor, session.device = (
        SimpleNamespace(vision=coarse),
        SimpleNamespace(pixels=pixels),
        "cpu",
    )
    measures = OutOfDistribution(task=films_task, at_least=0.6, images=30).examine(judged)
    assert [one.name.partition(":")[0] for one in measures] == list(STRANGE)
    assert {one.verdict for one in measures} == {Verdict.PASSED}
    for one in measures:
        assert one.items
        assert set(one.items) <= set(judged.evidence.shown), "each figure leads to its images"
    session.model = SimpleNamespace(vision=lambda pixels_NCHW: torch.zeros(len(pixels_NCHW), 1, 3))
    (blind, *_) = OutOfDistribution(task=films_task, kinds=["noisy"], at_least=0.6).examine(judged)
    assert blind.value == 0.5
    assert blind.verdict is not Verdict.PASSED
    session.model = SimpleNamespace(vision=None)
    with pytest.raises(ConfigError, match="no vision encoder"):
        OutOfDistribution(task=films_task).examine(judged)


def test_images_of_the_same_kind_are_not_told_apart() -> None:
    flagged = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        usual, one, two = (generator.normal(size=(80, 5)).astype(np.float32) for _ in range(3))
        detector = Distance(usual)
        patients = [f"patient {n}" for n in range(80)]
        own, other = (Strangeness(detector.of(each), *generator.normal(size=(2, 80))) for each in (one, two))
        found = told_apart(own, other, patients, patients, "same", at_least=None)
        flagged += not found.low <= 0.5 <= found.high
    assert flagged <= 3


def test_strange_images_that_confidence_alone_notices_are_said_to_be(films_task: str, subject: Judge) -> None:
    def unsure(example: Example) -> float:
        return 0.6 if isinstance(example.images[0], Changed) else 0.95

    judged = subject(unsure)
    session: Any = judged.session
    session.model, session.processor, session.device = (
        SimpleNamespace(vision=lambda pixels_NCHW: torch.zeros(len(pixels_NCHW), 1, 3)),
        SimpleNamespace(pixels=pixels),
        "cpu",
    )
    (found,) = OutOfDistribution(task=films_task, kinds=["blank"], at_least=0.6, images=30, usual=30).examine(judged)
    assert found.value == 0.5
    assert "area of confidence 1.00" in found.note
    assert "of energy 0.50" in found.note, "yes and no make a whole here"
    assert "average precision 0.50" in found.note
    other = OutOfDistribution(task=films_task, kinds=[], others={"itself": films_task}, images=30, usual=30)
    (same,) = other.examine(judged)
    assert same.name.startswith("itself")
    assert "area of confidence 0.50" in same.note


@pytest.mark.parametrize("kind", [*STRANGE, *CORRUPTIONS])
def test_a_change_is_the_same_each_time_and_no_other_change(films: list[Example], kind: str) -> None:
    image = films[0].images[0]
    severities = [1, 3, 5] if kind in CORRUPTIONS else [0]
    changed = [np.asarray(Changed(image, kind, severity).open()) for severity in severities]
    assert (np.asarray(Changed(image, kind, severities[0]).open()) == changed[0]).all()
    plain = np.asarray(image.open())
    away = [float(np.abs(one.astype(float) - plain).mean()) for one in changed]
    assert away == sorted(away)
    assert away[0] > 0
    assert Changed(image, kind, severities[-1]).open().mode == image.open().mode


def test_worse_pictures_cost_a_model_that_cannot_read_them(films_task: str, subject: Judge, sighted: Believe) -> None:
    def frail(example: Example) -> float:
        image = example.images[0]
        if isinstance(image, Changed):
            return 0.9 if image.severity > 2 else sighted(Example(**plain(example, image.image)))
        return sighted(example)

    def plain(example: Example, image: LazyImage) -> dict[str, Any]:
        names = ("id", "patient", "turns", "options", "topic", "split", "source", "attributes")
        return {name: getattr(example, name) for name in names} | {"images": (image,)}

    check = Corruption(task=films_task, kinds=["blur"], severities=[1, 3, 5], at_most=0.2, limit=400)
    light, middle, heavy = check.examine(subject(frail))
    assert (light.value, light.verdict) == (0.0, Verdict.PASSED)
    assert middle.verdict is Verdict.FAILED
    assert heavy.verdict is Verdict.PASSED, "the limit holds up to the middle severity"
    assert heavy.value == middle.value > 0.3


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'blur'"):
        Corruption(task="", kinds=["blurr"])
    with pytest.raises(ConfigError, match="numbers from 1 to 5"):
        Corruption(task="", severities=[6])
