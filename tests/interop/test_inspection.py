"""An inspection says what is there, what it would become, and what does not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mmmed.interop.export import export
from mmmed.interop.importing import import_
from mmmed.interop.inspection import inspect_checkpoint
from mmmed.models.folder import save

Make = Callable[..., Any]


def test_a_hub_folder_and_our_own_are_described_alike(make_llava: Make, hub_folder: Make, tmp_path: Path) -> None:
    folder = hub_folder(make_llava())
    foreign = inspect_checkpoint(folder)
    assert (foreign.layout, foreign.complaint, foreign.tokens_per_image) == ("hf", "", 16)
    assert foreign.dtypes == {"float32": len(make_llava().state_dict())}
    ours = inspect_checkpoint(import_(folder, tmp_path / "ours"), digest=True)
    assert (ours.layout, ours.complaint, ours.changed) == ("mmmed", "", ())
    assert ours.classes == foreign.classes
    assert sum(ours.parameters.values()) == sum(foreign.parameters.values())
    assert ours.classes["projector"] == "mmmed.models.projector.MLPProjector"
    text = "\n".join(ours.lines())
    assert "tokens per image  16" in text
    assert "digest            as written" in text
    assert "fits              yes" in text


def test_what_does_not_fit_is_told_and_not_raised(make_llava: Make, hub_folder: Make, llava_folder: Make) -> None:
    folder = hub_folder(make_llava(), change=lambda state: state.update({"image_newline": torch.zeros(3)}))
    told = inspect_checkpoint(folder)
    assert "1 unused (image_newline)" in told.complaint
    assert told.lines()[-1].startswith("fits              no: ")
    original = inspect_checkpoint(llava_folder(make_llava(), mm_vision_tower="somewhere/else"))
    assert original.layout == "llava"
    assert "give --vision" in original.complaint


def test_a_run_and_its_model_folder_are_the_same(make_model: Make, tmp_path: Path) -> None:
    save(make_model(adapter={"kind": "lora", "r": 2}), tmp_path / "model", settings={}, provenance={})
    assert inspect_checkpoint(tmp_path) == inspect_checkpoint(tmp_path / "model")
    assert inspect_checkpoint(tmp_path).complaint == ""
    exported = inspect_checkpoint(export(tmp_path, tmp_path / "hf"), digest=True)
    assert (exported.layout, exported.changed, exported.complaint) == ("hf", (), "")
