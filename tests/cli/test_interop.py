"""`mmmed export`, `import` and `inspect`, as typed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmmed.cli.main import ENVIRONMENT, main
from mmmed.models.folder import save
from mmmed.processing.processor import Processor


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in a folder of its own, and undo what a command sets for its process."""
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_model_goes_out_and_comes_back(
    make_model: Callable[..., Any],
    make_processor: Callable[..., Processor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = make_model()
    make_processor(model)
    save(model, Path("run/model"), settings={"system": None, "max_length": 512}, provenance={})
    assert main(["export", "run", "--to", "hub"]) == 0
    assert main(["export", "run", "--to", "files", "--format", "gguf"]) == 0
    assert main(["import", "hub", "--to", "back"]) == 0
    assert main(["inspect", "back", "--digest", "true"]) == 0
    told = capsys.readouterr().out
    assert "exported: hub\n" in told
    assert "imported: back\n" in told
    assert "fits              yes" in told
    assert sorted(path.name for path in Path("files").iterdir()) == ["files.gguf", "mmproj-files.gguf"]


def test_what_goes_wrong_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "nowhere", "--to", "hub"]) == 2
    assert main(["import", "nowhere", "--to", "back"]) == 2
    Path("empty").mkdir()
    assert main(["inspect", "empty"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert "no model of mmmed at nowhere" in lines[0]
    assert "no weights in empty" in lines[2]
