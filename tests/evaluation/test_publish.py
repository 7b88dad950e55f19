"""What a reader sees of an experiment: one page that loads nothing, and ten lines."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmmed.evaluation.experiment import Outcome
from mmmed.evaluation.experiment_file import BASELINES, MAIN, WHERE_NAMED
from mmmed.evaluation.publish import ARMS, publish, summary
from mmmed.evaluation.text_classifier import ARM as TEXT_CLASSIFIER


@pytest.fixture
def outcome(tiny_experiment: Any) -> Outcome:
    first: Outcome = tiny_experiment.outcomes[0]
    return first


@pytest.fixture
def page(tiny_experiment: Any, outcome: Outcome) -> str:
    path = publish(tiny_experiment.described, outcome, command="mmmed experiment run tiny")
    assert path == outcome.output / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_needs_nothing_beside_it(page: str) -> None:
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page) + re.findall(r"url\(([^)]+)\)", page)
    assert all(target.startswith(("data:", "#")) for target in loaded), loaded
    assert "<script src" not in page
    assert "@import" not in page


def test_the_page_tells_question_arms_pictures_curves_parts_and_command(page: str) -> None:
    assert "Does the image matter to a tiny model?" in page
    for arm in (MAIN, *BASELINES, TEXT_CLASSIFIER):
        assert ARMS[arm] in page, arm
    for expected in ("data:image/", "Training loss", "projector", "phantom", "mmmed experiment run tiny", "free"):
        assert expected in page, expected


def test_every_arm_has_a_description() -> None:
    assert set(ARMS) == {MAIN, *BASELINES, *WHERE_NAMED, TEXT_CLASSIFIER}


def test_the_summary_of_two_tasks_is_ten_lines_or_fewer(outcome: Outcome) -> None:
    lines = list(summary(outcome, Path("report.html")))
    assert len(lines) <= 10
    assert lines[0].startswith("closed: balanced accuracy 0.")
    assert "n = " in lines[0]
    assert all(arm in lines[1] for arm in BASELINES)
    assert lines[2].startswith("free: token f1 ")
    assert lines[-3:] == [
        "report      report.html",
        f"results     {outcome.output / 'results.json'}",
        f"checkpoint  {outcome.arms[0][MAIN]}",
    ]


def test_the_summary_without_baselines_says_nothing_of_them(outcome: Outcome) -> None:
    alone = replace(outcome, rows=[row for row in outcome.rows if row.arm == MAIN and row.baseline is None])
    assert not any("against" in line for line in summary(alone, Path("report.html")))
