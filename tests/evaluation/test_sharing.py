"""Several processes answer what one would have answered."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import pytest

from mmmed.errors import ConfigError, DataError
from mmmed.evaluation.sharing import WHOLE, Share, beside_others, in_processes, launched_share

# The other processes import what they do by its name.
WORK = """
from mmmed.errors import DataError


def note(folder, share):
    (folder / str(share.number)).write_text(str(share.of))


def take(folder, share):
    for piece in range(5):
        if share.takes():
            with (folder / str(piece)).open("a") as file:
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
    in_processes(work.take, turns, processes=2)
    assert {path.name: path.read_text() for path in turns.iterdir()} == dict.fromkeys("01234", "x"), "each once"
    with pytest.raises(DataError, match="process 1 of 2 ended with code 2; what was done is kept"):
        in_processes(work.fail, folder, processes=2)
    with pytest.raises(ConfigError, match="processes is 0; expected 1 or more"):
        in_processes(work.note, folder, processes=0)


@pytest.mark.parametrize(("gpus", "asked"), [(0, []), (1, []), (4, ["--trainer.devices", "[1]"])])
def test_each_process_trains_on_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, gpus: int, asked: list[str]) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    given: list[str] = []
    beside_others(given.extend, Share(5, 8))(["fit"])
    assert given == ["fit", "--trainer.enable_progress_bar", "false", *asked]


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


class Counter:
    """Turns within one process."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def take(self) -> int:
        return next(self._numbers)


def test_who_is_done_first_takes_the_next_piece_and_each_piece_is_taken_once() -> None:
    turns = Counter()
    slow, fast = Share(0, 2, turns), Share(1, 2, turns)  # type: ignore[arg-type]
    assert slow.takes(), "the first piece, at which it stays"
    assert [fast.takes() for _ in range(4)] == [False, True, True, True]
    assert [slow.takes() for _ in range(4)] == [False, False, False, True]
    assert [fast.takes() for _ in range(2)] == [False, True]


def test_without_turns_pieces_are_dealt_out() -> None:
    shares = [Share(number, 3) for number in range(3)]
    assert [[one.takes() for _ in range(4)] for one in shares] == [
        [True, False, False, True],
        [False, True, False, False],
        [False, False, True, False],
    ]
    assert all(WHOLE.takes() for _ in range(3))
