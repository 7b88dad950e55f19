"""Two results folders are paired by item and patient, and only where they can be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmmed.cli.main import main
from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.compare import compare
from mmmed.evaluation.experiment_file import MAIN
from mmmed.evaluation.folders import CONTENTS, compare_folders
from mmmed.evaluation.predictions import Prediction, write_jsonl

METRICS = ["balanced_accuracy", "accuracy"]


def predictions(right: Sequence[bool], *, arm: str = MAIN, task: str = "t") -> list[Prediction]:
    """Two questions about each patient."""
    references = ["yes" if number % 3 else "no" for number in range(len(right))]
    wrong = {"yes": "no", "no": "yes"}
    return [
        Prediction(
            arm=arm,
            task=task,
            id=f"phantom:{number}",
            patient=f"p{number // 2}",
            source="phantom",
            topic="effusion",
            question="?",
            reference=reference,
            answer=reference if is_right else wrong[reference],
            options={"yes": 0.5, "no": 0.5},
        )
        for number, (reference, is_right) in enumerate(zip(references, right, strict=True))
    ]


def folder(path: Path, arms: dict[str, list[list[Prediction]]], *, version: int = 1, task: str = "t") -> Path:
    """A results folder of one task, with as many runs as each arm has lists."""
    runs: list[dict[str, Any]] = []
    for number, answers in enumerate(zip(*arms.values(), strict=True)):
        files = {arm: f"predictions/{arm}.{number}.jsonl" for arm in arms}
        for (_, file), said in zip(files.items(), answers, strict=True):
            write_jsonl(path / file, said)
        runs.append({task: files})
    judged = {"version": version, "metrics": METRICS, "deciding": "accuracy"}
    path.mkdir(parents=True, exist_ok=True)
    (path / CONTENTS).write_text(json.dumps({"tasks": {task: judged}, "runs": runs}))
    return path


GOOD = [number % 10 != 0 for number in range(80)]
BAD = [number % 2 == 0 for number in range(80)]


def test_the_difference_is_that_of_a_paired_comparison(tmp_path: Path) -> None:
    first = folder(tmp_path / "a", {MAIN: [predictions(GOOD)]})
    second = folder(tmp_path / "b", {MAIN: [predictions(BAD)[::-1]]})
    difference = compare_folders(first, second)
    assert (difference.first, difference.second) == ("a", "b")
    arms = {"a": predictions(GOOD, arm="a"), "b": predictions(BAD, arm="b")}
    expected = compare(arms, main="a", baselines=["b"], task="t", metrics=METRICS, seed=0)
    found = {(row.metric, row.arm, row.baseline): row for row in difference.rows}
    for row in expected:
        other = found[row.metric, row.arm, row.baseline]
        assert (other.value, other.delta, other.delta_low, other.p_alone) == (
            row.value,
            row.delta,
            row.delta_low,
            row.p,
        )
    against = found["accuracy", "a", "b"]
    assert against.family == "primary", "the metric that the task declares decides"
    assert against.delta == pytest.approx(sum(GOOD) / 80 - sum(BAD) / 80)
    heading, line = difference.table()
    assert heading.split()[:5] == ["task", "n", "metric", "a", "b"]
    assert line.split()[:5] == ["t", "80", "accuracy", "0.900", "0.500"]


def test_seeds_are_paired_and_arms_can_be_named(tmp_path: Path) -> None:
    runs = [predictions(GOOD), predictions(BAD)]
    first = folder(tmp_path / "a", {MAIN: runs, "text_only": [predictions(BAD, arm="text_only")] * 2})
    difference = compare_folders(first, first, arm=MAIN, against="text_only")
    assert (difference.first, difference.second) == (MAIN, "text_only")
    row = next(row for row in difference.rows if row.baseline and row.metric == "accuracy")
    assert row.runs == 2 and row.delta == pytest.approx((0.4 + 0.0) / 2)


def test_folders_of_one_name_are_told_apart_by_those_above(tmp_path: Path) -> None:
    first = folder(tmp_path / "old" / "results", {MAIN: [predictions(GOOD)]})
    second = folder(tmp_path / "new" / "results", {MAIN: [predictions(BAD)]})
    assert compare_folders(first, second).first == "old/results"


def test_what_cannot_be_paired_is_one_line(tmp_path: Path) -> None:
    first = folder(tmp_path / "a", {MAIN: [predictions(GOOD)]})
    with pytest.raises(ConfigError, match="against itself; name two folders, or another arm with --against"):
        compare_folders(first, first)
    with pytest.raises(ConfigError, match=r"a has no arm 'vml' in task 't' \(did you mean 'vlm'\?\)"):
        compare_folders(first, folder(tmp_path / "b", {MAIN: [predictions(BAD)]}), arm="vml")
    with pytest.raises(ConfigError, match=r"task 't' is version 1 in .*a and 2 in .*c; ask both the same version"):
        compare_folders(first, folder(tmp_path / "c", {MAIN: [predictions(BAD)]}, version=2))
    with pytest.raises(ConfigError, match=r"a has 1 runs and .*d has 2; give both the same number of seeds"):
        compare_folders(first, folder(tmp_path / "d", {MAIN: [predictions(BAD)] * 2}))
    with pytest.raises(ConfigError, match="have no task in common: t, and u"):
        compare_folders(first, folder(tmp_path / "e", {MAIN: [predictions(BAD, task="u")]}, task="u"))
    with pytest.raises(DataError, match="did not answer the same items"):
        compare_folders(first, folder(tmp_path / "f", {MAIN: [predictions(BAD[:-2])]}))
    with pytest.raises(DataError, match=r"expected a folder that `mmmed experiment run` or `mmmed evaluate` left"):
        compare_folders(first, tmp_path)


def test_the_command_prints_a_table_and_leaves_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "a", {MAIN: [predictions(GOOD)]})
    folder(tmp_path / "b", {MAIN: [predictions(BAD)]})
    assert main(["experiment", "compare", "a", "b", "--output", "both"]) == 0
    printed = capsys.readouterr().out
    assert "accuracy  0.900  0.500  +0.400" in printed
    html = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert "Is a better than b?" in html and ">Yes.<" in html
    assert "mmmed experiment compare a b --output both" in html
    assert 'id="items-data"' in html
    rows = json.loads((tmp_path / "both" / "results.json").read_text())
    assert {row["arm"] for row in rows} == {"a", "b"}
    assert main(["experiment", "compare", "a", "b", "--output", "a"]) == 2
    assert "--output a holds the results that are compared" in capsys.readouterr().err
