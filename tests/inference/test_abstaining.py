"""A model that abstains keeps the risk it states, and says so wherever it is opened."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmmed.errors import CheckpointError, ConfigError
from mmmed.inference.abstaining import FILE, NEVER, Abstaining, fit_abstaining, read_abstaining
from mmmed.inference.session import open_session
from mmmed.models.folder import save
from mmmed.models.vlm import VisionLanguageModel
from mmmed.records import Example


def fit(sure: np.ndarray, right: np.ndarray, patients: list[str], risk: float = 0.1) -> Abstaining:  # type: ignore[type-arg]
    return fit_abstaining(sure.tolist(), right.tolist(), patients, risk=risk, task="films", identity="x")


def test_the_stated_risk_is_exceeded_in_no_more_than_one_fit_in_twenty() -> None:
    exceeded, coverages = 0, []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        sure = generator.uniform(0.5, 1, 1500)
        right = generator.random(1500) < sure
        fitted = fit(sure, right, [str(number // 2) for number in range(1500)])
        coverages.append(fitted.coverage)
        # Who is this sure is right as often as the mean of what is above the threshold.
        exceeded += fitted.threshold < NEVER and 1 - (fitted.threshold + 1) / 2 > 0.1
    assert exceeded <= 3
    assert np.mean(coverages) > 0.1, "it does not abstain from all; with endless data it would answer 0.4"


def test_one_that_is_always_right_answers_all_and_one_that_never_is_none() -> None:
    sure, patients = np.linspace(0.5, 1, 200), [str(number) for number in range(200)]
    assert fit(sure, np.ones(200, dtype=bool), patients).threshold == 0.0
    never = fit(sure, np.zeros(200, dtype=bool), patients)
    assert (never.threshold, never.coverage) == (NEVER, 0.0)
    assert never.is_silent(1.0)
    few = fit(sure[:20], np.ones(20, dtype=bool), patients[:20])
    assert few.threshold == NEVER, "twenty right answers do not show a risk of a tenth"
    same = fit(sure, np.ones(200, dtype=bool), ["one"] * 200)
    assert same.threshold == NEVER, "one patient shows nothing of others"
    with pytest.raises(ConfigError, match="expected a share"):
        fit(sure, sure > 0, patients, risk=1.0)


def test_it_is_kept_beside_the_model_and_marks_answers(
    make_model: Callable[..., VisionLanguageModel], examples: list[Example], tmp_path: Path
) -> None:
    closed = [one for one in examples if one.options]
    save(make_model(), tmp_path / "model", settings={"system": None, "max_length": 512}, provenance={"stage": "align"})
    session = open_session(tmp_path)
    assert session.provenance == {"stage": "align"}
    plain = session.choose(closed)
    assert not any(one.abstains for one in plain)
    middle = sorted(one.options[one.text] for one in plain)[len(plain) // 2]
    settings = {"risk": 0.1, "coverage": 0.5, "patients": 9, "task": "films"}
    Abstaining(threshold=middle, identity=session.identity(), **settings).write(tmp_path / "model")
    marked = open_session(tmp_path).choose(closed)
    assert [one.abstains for one in marked] == [one.options[one.text] < middle for one in plain]
    assert any(one.abstains for one in marked)
    assert not all(one.abstains for one in marked)
    Abstaining(threshold=middle, identity="another", **settings).write(tmp_path / "model")
    with pytest.raises(CheckpointError, match="fitted to other weights"):
        open_session(tmp_path)
    (tmp_path / "model" / FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="mmmed abstain"):
        read_abstaining(tmp_path / "model")
