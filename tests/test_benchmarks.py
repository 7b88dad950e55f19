"""Benchmarks time both sides alike, keep their rows whole, and draw what they found."""

import importlib
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from benchmarks import drawing, measuring

BENCHMARKS = Path(measuring.__file__).parent


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The driver, as it is run: with its folder before all others."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module("bench")
    for name in set(sys.modules) - before:
        del sys.modules[name]


def claim(ratio: float, *, name: str = "a step", bar: float | None = 2.0, at_most: bool = False) -> measuring.Claim:
    return measuring.Claim(
        claim=name,
        peer="a <peer>",
        ratio=ratio,
        low=ratio - 0.1,
        high=ratio + 0.1,
        bar=bar,
        at_most=at_most,
        machine="m",
    )


def test_both_are_run_as_often_and_the_faster_one_is_told() -> None:
    runs: list[str] = []

    def run(name: str, seconds: float) -> None:
        runs.append(name)
        time.sleep(seconds)

    made = measuring.in_turns(
        "sleep",
        peer="more sleep",
        theirs=lambda: run("theirs", 0.03),
        ours=lambda: run("ours", 0.001),
        equal=0.0,
        bar=2.0,
        pairs=3,
    )
    assert runs == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert made.low <= made.ratio <= made.high
    assert made.ratio > 2
    assert made.verdict == "bar 2: holds"


def test_rows_replace_those_of_the_same_claim_and_are_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    measuring.write("speed", [claim(1.0), claim(2.0, name="another")])
    measuring.write("speed", [claim(3.0)])
    rows = measuring.read(tmp_path / "speed.json")
    assert [(row["claim"], row["ratio"]) for row in rows] == [("a step", 3.0), ("another", 2.0)]
    assert {"claim", "peer", "ratio", "low", "high", "equal", "bar", "machine"} <= rows[0].keys()
    monkeypatch.setattr("json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measuring.write("speed", [claim(4.0)])
    assert measuring.read(tmp_path / "speed.json") == rows


def test_memory_is_to_be_at_most_its_bar() -> None:
    assert claim(0.2, bar=0.25, at_most=True).verdict == "bar 0.25: holds"
    assert claim(0.3, bar=0.25, at_most=True).verdict == "bar 0.25: falls short"
    assert claim(0.3, bar=None).verdict == "no bar"


def test_the_plot_is_an_image_with_a_line_for_each_claim(tmp_path: Path) -> None:
    rows = [
        vars(claim(3.0)),
        vars(claim(0.2, name="memory & more", bar=0.25, at_most=True)),
        vars(claim(1.5, bar=None)),
    ]
    drawing.draw(rows, tmp_path / "plot.svg")
    drawn = ElementTree.parse(tmp_path / "plot.svg").getroot()
    groups = [one for one in drawn if one.tag.endswith("}g")]
    assert len(groups) == 3
    assert "memory & more, against a <peer>" in [one.text for group in groups for one in group]
    drawing.draw([], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_the_driver_runs_what_is_there_and_goes_on_after_a_failure(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in bench.SPEED:
        assert (BENCHMARKS / f"{name}.py").is_file()
        assert name in bench.commands(1, "data")
    ends = {"generation": "raise SystemExit(1)", "loading": "import sys; print('ran', *sys.argv[1:])"}
    for name, program in ends.items():
        (tmp_path / f"{name}.py").write_text(program)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "PLOT", tmp_path / "plot.svg")
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "NEEDS", {"option_scoring": "no_such_package"})
    monkeypatch.setattr(sys, "argv", ["bench", "--pairs", "1", "--only", "option_scoring", "generation", "loading"])
    with pytest.raises(SystemExit, match="these failed: generation"):
        bench.main()
    told = capsys.readouterr().out
    assert "option_scoring: left out, since no_such_package is not installed" in told
    assert "loading million" in told


def test_results_that_are_kept_say_nothing_of_where_they_were_made() -> None:
    for path in (BENCHMARKS / "results").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert json.loads(text) is not None
        assert str(Path.home()) not in text
        assert str(Path.cwd()) not in text
