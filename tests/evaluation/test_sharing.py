"""Several processes answer what one would have answered."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.blocks import WHOLE, Share
from mmmed.evaluation.sharing import Turns, in_processes, launched_share, own_device

# The other processes import what they do by its name.
WORK = """
from mmmed.errors import DataError


def note(folder, share):
    (folder / str(share.number)).write_text(str(share.of))


def take(folder, turns, share):
    for turn in turns.up_to(5):
        with (folder / str(turn)).open("a") as file:
            file.write("x")


def fail(folder, share):
    if share.number:
        raise DataError("no such thing")
"""


@pytest.mark.slow
def test_each_share_is_done_once_and_a_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work_of_shares.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    work = importlib.import_module("work_of_shares")
    folder = tmp_path / "notes"
    folder.mkdir()
    in_processes(work.note, folder, processes=2)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"0": "2", "1": "2"}
    turns = tmp_path / "turns"
    turns.mkdir()
    in_processes(work.take, turns, Turns(), processes=2)
    assert {path.name: path.read_text() for path in turns.iterdir()} == dict.fromkeys("01234", "x"), "each once"
    with pytest.raises(DataError, match="process 1 of 2 ended with code 2; what was done is kept"):
        in_processes(work.fail, folder, processes=2)
    with pytest.raises(ConfigError, match="processes is 0; expected 1 or more"):
        in_processes(work.note, folder, processes=0)


@pytest.mark.parametrize(("gpus", "asked"), [(0, []), (1, []), (4, ["--trainer.devices", "[1]"])])
def test_each_process_trains_on_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, gpus: int, asked: list[str]) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert own_device(Share(5, 8)) == asked


def test_the_launcher_says_which_share_a_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert launched_share() == WHOLE
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="let torchrun set both"):
        launched_share()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched_share() == Share(1, 2)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigError, match="RANK is '2' and WORLD_SIZE '2'"):
        launched_share()
