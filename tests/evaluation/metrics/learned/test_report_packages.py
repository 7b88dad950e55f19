"""RadGraph and GREEN through stand-ins of their packages' documented interface, and RadCliQ of its parts."""

import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmmed.errors import ConfigError, WeightsError
from mmmed.evaluation.metrics.learned.green import Green
from mmmed.evaluation.metrics.learned.radcliq import RadCliQ, cosines, errors
from mmmed.evaluation.metrics.learned.radgraph import RadGraph, apart

TUBE = {"tokens": "tube", "label": "Observation::definitely present", "relations": [["located_at", "2"]]}
CHEST = {"tokens": "chest", "label": "Anatomy::definitely present", "relations": []}
AIR = {"tokens": "pneumothorax", "label": "Observation::definitely absent", "relations": []}
GRAPHS = {"tube": {"1": TUBE, "2": CHEST}, "both": {"1": TUBE, "2": CHEST, "3": AIR}, "none": {}}


class Comparison:
    """As `radgraph.F1RadGraph`: a mean, one reward a pair, and the graphs of both sides."""

    def __init__(self, reward_level: str, model_type: str) -> None:
        self.level = reward_level

    def __call__(self, refs: Sequence[str], hyps: Sequence[str]) -> tuple[Any, ...]:
        said, wanted = ([{"entities": GRAPHS[text]} for text in texts] for texts in (hyps, refs))
        return 0.5, [0.25] * len(hyps), said, wanted


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(name: str, **content: Any) -> None:
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)

    return put


def test_radgraph_gives_the_package_its_say(provide: Callable[..., None]) -> None:
    provide("radgraph", F1RadGraph=Comparison)
    assert RadGraph().scores(["tube", "both"], ["both", "tube"]) == [0.25, 0.25]


def test_entities_and_relations_apart_are_counted_from_the_graphs(provide: Callable[..., None]) -> None:
    provide("radgraph", F1RadGraph=Comparison)
    (found,) = RadGraph(reward="apart").scores(["both"], ["tube"])
    assert found == pytest.approx((2 * 2 / (2 + 3) + 1.0) / 2)
    assert apart(GRAPHS["none"], GRAPHS["both"]) == 0.0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "radgraph", None)
    with pytest.raises(ConfigError, match=r"needs the package radgraph .*pip install radgraph"):
        RadGraph()


def test_weights_that_cannot_be_had_are_an_error_of_one_line(provide: Callable[..., None]) -> None:
    def unreachable(**settings: Any) -> None:
        raise Exception("no answer\nfrom the hub")

    provide("radgraph", F1RadGraph=unreachable)
    with pytest.raises(WeightsError, match=r"radgraph-xl cannot be had \(no answer from the hub\)"):
        RadGraph()


def test_green_is_silent_where_its_judge_is(provide: Callable[..., None]) -> None:
    def judge(model: str, output_dir: str) -> Callable[..., Any]:
        return lambda refs, hyps: (0.5, 0.1, [0.75, None], "summary", None)

    provide("green_score", GREEN=judge)
    first, second = Green().scores(["a", "b"], ["a", "c"])
    assert first == 0.75
    assert np.isnan(second)


def test_radcliq_is_one_for_equal_reports_and_nothing_where_nothing_is_shared() -> None:
    def parts(value: float) -> Any:
        return SimpleNamespace(scores=lambda references, answers: [value] * len(answers))

    def texts(vectors: dict[str, list[float]]) -> Any:
        return SimpleNamespace(places=lambda said: np.array([vectors[text] for text in said]))

    vectors = texts({"a": [1.0, 0.0], "b": [0.0, 2.0], "c": [1.0, 1.0]})
    assert RadCliQ(parts(1.0), parts(1.0), vectors).scores(["a"], ["a"]) == pytest.approx([1.0])
    assert RadCliQ(parts(0.0), parts(0.0), vectors).scores(["a"], ["b"]) == pytest.approx([0.0])
    (half,) = RadCliQ(parts(0.5), parts(0.5), vectors).scores(["a"], ["c"])
    assert 0.5 < half < 0.6, "the cosine is 0.71"


def test_radcliq_before_scaling_is_the_published_sum() -> None:
    parts = np.array([0.53792312, 0.61757256 + 0.22430938, 0.76479421])
    assert errors(parts) == pytest.approx(-0.370300100)
    assert cosines(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]])) == pytest.approx(0.0)
