"""Several models under the same suites stand side by side, with a card each."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmmed.cli.main import main
from mmmed.errors import ConfigError
from mmmed.models.folder import save
from mmmed.models.vlm import VisionLanguageModel
from mmmed.safety.experiment import read_bias

Films = Callable[..., str]


def described(tmp_path: Path, suite: Path, extra: str = "") -> Path:
    file = tmp_path / "experiment.yaml"
    file.write_text(
        f"kind: bias\nname: small\nquestion: Who is served worse?\n"
        f"arms:\n  first: {{checkpoint: {tmp_path}/model}}\n  second: {{checkpoint: {tmp_path}/model}}\n"
        f"suites: [{suite}]\n{extra}"
    )
    return file


@pytest.fixture
def suite(tmp_path: Path, known_films_task: Films) -> Path:
    file = tmp_path / "suite.yaml"
    file.write_text(
        "name: small\nversion: 1\nchecks:\n  - class_path: mmmed.safety.subgroups.SubgroupGaps\n"
        f"    init_args: {{task: {known_films_task('finding')}, by: [sex], rate: error, at_most: 0.9}}\n"
    )
    return file


def test_arms_stand_side_by_side(
    tmp_path: Path, suite: Path, make_model: Callable[..., VisionLanguageModel], capsys: pytest.CaptureFixture[str]
) -> None:
    save(make_model(), tmp_path / "model", settings={"system": None, "max_length": 512}, provenance={})
    main(["experiment", "run", str(described(tmp_path, suite)), "--output", str(tmp_path / "out")])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(one["arm"], one["suite"]) for one in results] == [("first", "small"), ("second", "small")]
    assert results[0]["checks"] == results[1]["checks"], "the same model under the same suite"
    assert "items" not in results[0]["checks"][0]["measures"][0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Who is served worse?" in page
    assert 'href="second/card_small/safety_card.html"' in page
    assert (tmp_path / "out" / "second" / "card_small" / "safety_card.html").is_file()
    assert "second, small: passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("only: {nowhere.yaml: [first]}", "none of the suites"),
        ("only: [first]", "lists of arms by suite"),
        ("tasks: []", "unknown key 'tasks'"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line(tmp_path: Path, suite: Path, extra: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_bias(described(tmp_path, suite, extra))


def test_a_suite_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file nowhere\.yaml"):
        read_bias(described(tmp_path, Path("nowhere.yaml")))
