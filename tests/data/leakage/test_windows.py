import pytest
import torch

from mmmed.data.leakage.windows import (
    WHOLE,
    Window,
    averaged,
    flattened,
    resample,
    turned,
    window_maps,
    windows,
)


def gradient(side: int = 64) -> torch.Tensor:
    return (torch.arange(side).float().expand(side, side) / side)[None]


def test_the_whole_picture_is_the_first_of_the_windows() -> None:
    assert windows()[0] == WHOLE
    assert len(set(windows())) == len(windows()) == 36
    assert all(one.left + one.right <= 0.2 + 1e-9 and one.top + one.bottom <= 0.2 + 1e-9 for one in windows())


def test_a_window_averaged_is_the_mean_of_what_it_covers() -> None:
    pictures = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
    assert averaged(pictures, WHOLE, side=1)[:, 0, 0] == pytest.approx(pictures.mean((1, 2)))
    quarter = averaged(pictures, Window(0.5, 0.0, 0.0, 0.5), side=2)
    assert quarter[0, 1, 0] == pytest.approx(float(pictures[0, 16:32, 32:48].mean()), abs=1e-6)


def test_seeing_through_a_window_is_cutting_it_out() -> None:
    cuts = torch.tensor([[0.25, 0.25, 0.0, 0.0]])
    seen = resample(gradient(), window_maps(cuts))
    assert seen[0, 5, 1:-1] == pytest.approx(torch.linspace(16, 47.5, 64)[1:-1] / 64, abs=0.01)


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    whole = window_maps(torch.zeros(1, 4))
    seen = resample(gradient(), turned(whole, torch.tensor([90.0])))
    assert seen[0] == pytest.approx(torch.rot90(gradient()[0], -1), abs=1e-5) or seen[0] == pytest.approx(
        torch.rot90(gradient()[0], 1), abs=1e-5
    )


def test_local_contrast_does_not_depend_on_brightness_and_hardly_on_contrast() -> None:
    pictures = 0.25 + 0.5 * torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = flattened(pictures, sigma=2.0, reach=3.0)
    assert flattened(pictures + 0.2, sigma=2.0, reach=3.0) == pytest.approx(plain, abs=1e-4)
    assert flattened(pictures * 0.6, sigma=2.0, reach=3.0) == pytest.approx(plain, abs=0.2)
    assert flattened(torch.full((1, 32, 32), 0.5), sigma=2.0, reach=3.0).abs().max() < 1e-3
