"""`mmmed.load` opens ours and others' alike, converts once, and keeps `import mmmed` light."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmmed
from mmmed.errors import CheckpointError, WeightsError
from mmmed.inference import loading
from mmmed.interop.export import export
from mmmed.models.folder import save
from mmmed.processing.processor import Processor
from mmmed.records import Example


@pytest.fixture
def trained(make_model: Callable[..., Any], make_processor: Callable[..., Processor], tmp_path: Path) -> Path:
    model = make_model(initializer_range=0.3)
    make_processor(model)
    save(model, tmp_path / "run" / "model", settings={"system": None, "max_length": 512}, provenance={})
    return tmp_path / "run"


def test_a_run_a_model_folder_and_its_export_answer_alike(
    trained: Path, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "cache"))
    exported = export(trained, tmp_path / "hf")
    asked = examples[:2]
    answers = [mmmed.load(path, device="cpu").choose(asked) for path in (trained, trained / "model", str(exported))]
    assert answers[0] == answers[1] == answers[2]
    (converted,) = (tmp_path / "cache" / "imported").iterdir()

    def again(*arguments: object, **settings: object) -> None:
        raise AssertionError("converted a second time")

    monkeypatch.setattr(loading, "import_", again)
    assert mmmed.load(exported, device="cpu").choose(asked) == answers[0]
    (exported / "README.md").write_text("changed")
    with pytest.raises(AssertionError, match="converted a second time"):
        mmmed.load(exported)
    assert converted.is_dir()


def test_a_hub_id_stands_for_its_present_state(monkeypatch: pytest.MonkeyPatch, trained: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(loading, "resolve", lambda reference: asked.append(reference) or trained)
    mmmed.load("llava-hf/llava-1.5-7b-hf", device="cpu")
    mmmed.load("hf:llava-hf/llava-1.5-7b-hf@v2", device="cpu")
    assert asked == ["hf:llava-hf/llava-1.5-7b-hf@main", "hf:llava-hf/llava-1.5-7b-hf@v2"]


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model at .*; expected model.json \(ours\) or config.json"):
        mmmed.load(tmp_path)
    with pytest.raises(WeightsError, match="no such file or folder"):
        mmmed.load(tmp_path / "nowhere" / "at" / "all")


def test_the_import_itself_is_light() -> None:
    code = "import sys, mmmed; print(sorted({'torch', 'transformers', 'jsonargparse'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
