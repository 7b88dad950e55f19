"""Features on disk: found by anybody, never half, never of something else."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmmed.errors import OutputError
from mmmed.models.feature_store import FeatureStore

KEYS = [f"{number:032x}" for number in range(8)]


def store(folder: Path, **settings: int) -> FeatureStore:
    return FeatureStore(folder / "encoder", tokens=2, width=3, **settings)


def test_what_is_kept_is_found_by_others_to_the_bit(tmp_path: Path) -> None:
    features = torch.randn(4, 2, 3)
    writer, reader = store(tmp_path), store(tmp_path)
    assert reader.find(KEYS[:1]) == [None]
    writer.keep(KEYS[:2], features[:2])
    writer.keep(KEYS[2:4], features[2:])
    for one in (writer, reader, pickle.loads(pickle.dumps(reader)), store(tmp_path)):
        found = one.find([KEYS[3], KEYS[7], KEYS[0]])
        assert found[1] is None
        assert torch.equal(found[0], features[3])
        assert torch.equal(found[2], features[0])
    assert writer.bytes_kept() == 4 * writer.bytes_each == 4 * 24


def test_files_are_begun_anew_when_they_are_full(tmp_path: Path) -> None:
    features = torch.randn(7, 2, 3)
    store(tmp_path, file_bytes=72).keep(KEYS[:7], features)
    assert len(list((tmp_path / "encoder").glob("*.features"))) == 3
    assert torch.equal(torch.stack(store(tmp_path).find(KEYS[:7])), features)


WRITES_ONE_THEN_DIES = """
import os, signal, sys, torch
from pathlib import Path
from mmmed.models.feature_store import FeatureStore
store = FeatureStore(Path(sys.argv[1]) / "encoder", tokens=2, width=3)
store.keep([f"{0:032x}"], torch.ones(1, 2, 3))
with store._path(store._own, "features").open("ab") as file:
    file.write(bytes(10))
with store._path(store._own, "keys").open("ab") as file:
    file.write(bytes(10))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_half(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WRITES_ONE_THEN_DIES, str(tmp_path)], check=False)
    assert done.returncode == -9
    opened = store(tmp_path)
    first, second = opened.find(KEYS[:2])
    assert torch.equal(first, torch.ones(2, 3))
    assert second is None
    opened.keep(KEYS[1:2], torch.zeros(1, 2, 3))
    assert torch.equal(store(tmp_path).find(KEYS[1:2])[0], torch.zeros(2, 3))


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_features_that_do_not_match_are_passed_over_and_made_again(tmp_path: Path, damage: str) -> None:
    store(tmp_path).keep(KEYS[:2], torch.ones(2, 2, 3))
    (file,) = (tmp_path / "encoder").glob("*.features")
    written = bytearray(file.read_bytes())
    written[-3] ^= 1
    file.write_bytes(bytes(written) if damage == "changed" else bytes(written[:-3]))
    opened = store(tmp_path)
    first, second = opened.find(KEYS[:2])
    assert torch.equal(first, torch.ones(2, 3))
    assert second is None
    opened.keep(KEYS[1:2], torch.ones(1, 2, 3))
    assert torch.equal(opened.find(KEYS[1:2])[0], torch.ones(2, 3))


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    shared = store(tmp_path)
    shared.keep(KEYS[:1], torch.zeros(1, 2, 3))
    children = []
    for number in range(1, 4):
        child = os.fork()
        if child == 0:
            shared.keep(KEYS[number : number + 1], torch.full((1, 2, 3), float(number)))
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    shared.keep(KEYS[4:5], torch.full((1, 2, 3), 4.0))
    found = shared.find(KEYS[:5])
    assert [float(one[0, 0]) for one in found if one is not None] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_the_room_it_takes_is_told_before_and_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = store(tmp_path)
    assert "features of about 1000000 pictures take 0.02 GiB" in opened.estimate(1_000_000)
    opened.keep(KEYS[:2], torch.zeros(2, 2, 3))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 24}))
    opened.estimate(3)
    with pytest.raises(OutputError, match="give FrozenFeatures a folder with room"):
        opened.estimate(4)
