"""Slices of a volume come in order, at even distances, in one scale of grey."""

from pathlib import Path

import numpy as np
import pytest

from mmmed.errors import ImageError
from mmmed.processing.volume import VolumeSlice, evenly, volume_slices
from mmmed.records import Example, LazyImage, Turn


@pytest.fixture
def file(tmp_path: Path) -> Path:
    steps = np.arange(10, dtype=np.int16)[:, None, None] * 100 + np.zeros((10, 4, 6), np.int16)
    stack = np.stack([np.full((5, 4, 4), 7), np.arange(80).reshape(5, 4, 4)]).astype(np.uint8)
    np.savez(tmp_path / "volumes.npz", ct=steps, stack=stack)
    return tmp_path / "volumes.npz"


@pytest.mark.parametrize(
    ("depth", "count", "chosen"),
    [(10, 2, [2, 7]), (9, 3, [1, 4, 7]), (4, 4, [0, 1, 2, 3]), (3, 8, [0, 1, 2]), (7, 1, [3])],
)
def test_slices_are_the_middles_of_equal_parts(depth: int, count: int, chosen: list[int]) -> None:
    assert evenly(depth, count) == chosen


def test_a_volume_becomes_the_pictures_of_an_example(file: Path) -> None:
    slices = volume_slices(file, "ct", count=5)
    assert [one.index for one in slices] == [1, 3, 5, 7, 9]
    assert len({one.name for one in slices}) == 5
    assert all(isinstance(one, LazyImage) for one in slices)
    Example(id="ct", patient="1", turns=(Turn("user", "<image>" * 5 + "Is there a nodule?"),), images=slices)


def test_grey_is_stretched_over_the_volume_and_not_over_each_slice(file: Path) -> None:
    greys = [np.asarray(one.open()) for one in volume_slices(file, "ct", count=10)]
    assert {grey.shape for grey in greys} == {(4, 6)}
    assert [len(np.unique(grey)) for grey in greys] == [1] * 10
    levels = [int(grey[0, 0]) for grey in greys]
    assert levels == sorted(set(levels))
    assert (levels[0], levels[-1]) == (0, 255)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_a_stack_is_cut_along_any_axis(file: Path, axis: int) -> None:
    expected = np.arange(80, dtype=np.uint8).reshape(5, 4, 4)
    slices = volume_slices(file, "stack", count=9, volume=1, axis=axis)
    assert len(slices) == expected.shape[axis]
    for index, one in enumerate(slices):
        assert np.array_equal(np.asarray(one.open()), expected.take(index, axis=axis))


def test_what_is_no_volume_is_refused(file: Path) -> None:
    with pytest.raises(ImageError, match=r"has shape \(2, 5, 4, 4\); expected \(D, H, W\)"):
        volume_slices(file, "stack", count=2)
    with pytest.raises(ImageError, match="has no volume 2; it holds 2"):
        volume_slices(file, "stack", count=2, volume=2)
    with pytest.raises(ImageError, match="does not exist: the volume has 10"):
        VolumeSlice(path=file, key="ct", volume=None, index=10).open()
