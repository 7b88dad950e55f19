from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmmed.data.leakage import neighbours
from mmmed.data.leakage.descriptor import fit_descriptor
from mmmed.data.leakage.near import near_pairs
from mmmed.data.leakage.neighbours import Candidates, candidates, pairs_of
from mmmed.data.leakage.registration import agreement
from mmmed.data.leakage.windows import resample, turned, window_maps

Textures = Callable[..., torch.Tensor]


def altered(pictures: torch.Tensor, *, cuts: list[float], degrees: float = 0.0, gain: float = 1.0) -> torch.Tensor:
    count = len(pictures)
    maps = turned(window_maps(torch.tensor([cuts]).expand(count, 4)), torch.full((count,), degrees))
    seen = resample(pictures.float() / 255, maps)
    return (((seen - 0.5) * gain + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    ("cuts", "degrees", "gain"),
    [
        ([0.0, 0.0, 0.0, 0.0], 0.0, 1.0),
        ([0.12, 0.04, 0.0, 0.15], 0.0, 1.0),
        ([0.0, 0.0, 0.0, 0.0], 8.0, 1.0),
        ([0.0, 0.0, 0.0, 0.0], 0.0, 0.5),
        ([0.05, 0.05, 0.05, 0.05], -6.0, 0.7),
    ],
)
def test_altered_copies_are_found_and_nothing_else(
    textures: Textures, cuts: list[float], degrees: float, gain: float
) -> None:
    pictures = textures(40)
    copies = altered(pictures[:20], cuts=cuts, degrees=degrees, gain=gain)
    pairs = near_pairs(torch.cat([pictures, copies]).numpy()).pairs
    assert {(pair.first, pair.second) for pair in pairs} == {(place, 40 + place) for place in range(20)}


def test_a_bar_of_text_hides_no_copy(textures: Textures) -> None:
    pictures = textures(12)
    copies = pictures[:6].clone()
    copies[:, 50:56, 4:50] = 255
    pairs = near_pairs(torch.cat([pictures, copies]).numpy()).pairs
    assert {(pair.first, pair.second) for pair in pairs} == {(place, 12 + place) for place in range(6)}


def test_pictures_of_one_body_plan_are_not_held_to_be_one(textures: Textures) -> None:
    assert near_pairs(textures(300).numpy()).pairs == []


def test_blank_pictures_are_set_apart() -> None:
    result = near_pairs(np.full((3, 64, 64), 128, np.uint8))
    assert (result.pairs, result.blank) == ([], [0, 1, 2])


def test_more_copies_than_neighbours_are_all_found(textures: Textures) -> None:
    pictures = textures(60)
    copies = torch.cat([altered(pictures[:1], cuts=[0.0, 0.0, 0.01 * place, 0.0]) for place in range(1, 13)])
    pairs = near_pairs(torch.cat([pictures, copies]).numpy()).pairs
    group = {0, *range(60, 72)}
    assert {(pair.first, pair.second) for pair in pairs} == {(a, b) for a in group for b in group if a < b}


def test_a_given_pair_is_compared_as_any_other(textures: Textures) -> None:
    pictures = textures(8)
    both = torch.cat([pictures, altered(pictures[:1], cuts=[0.1, 0.0, 0.1, 0.0])]).numpy()
    assert [(pair.first, pair.second) for pair in near_pairs(both, also=[(0, 8), (1, 2)]).pairs] == [(0, 8)]


def test_cells_find_what_comparing_all_finds(textures: Textures, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = textures(600)
    both = torch.cat([pictures, altered(pictures[:60], cuts=[0.1, 0.05, 0.0, 0.1], degrees=4.0)])
    descriptor = fit_descriptor(both)
    looked_up = torch.arange(600, 660)

    def planted(found: Candidates) -> int:
        ends = zip(found.first_P.tolist(), found.second_P.tolist(), strict=True)
        return sum(abs(first - second) == 600 for first, second in ends)

    exhaustive = planted(candidates(both, descriptor, nearest=8, looked_up_Q=looked_up))
    monkeypatch.setattr(neighbours, "EXHAUSTIVE", 100)
    in_cells = planted(candidates(both, descriptor, nearest=8, looked_up_Q=looked_up))
    assert exhaustive == 60
    assert in_cells >= 58


def test_no_candidate_is_the_picture_itself_and_none_comes_twice(textures: Textures) -> None:
    pictures = textures(50)
    found = candidates(pictures, fit_descriptor(pictures), nearest=5, looked_up_Q=torch.arange(50))
    ends = [frozenset(pair) for pair in zip(found.first_P.tolist(), found.second_P.tolist(), strict=True)]
    assert len(set(ends)) == len(ends)
    assert all(len(pair) == 2 for pair in ends)


def test_the_window_that_fits_is_found_for_a_given_pair(textures: Textures) -> None:
    pictures = textures(4)
    copies = altered(pictures, cuts=[0.2, 0.0, 0.0, 0.2])
    both = torch.cat([pictures, copies])
    descriptor = fit_descriptor(both)
    given = pairs_of(torch.arange(4, 8), torch.arange(4), both, descriptor)
    assert {neighbours.windows()[place] for place in given.window_P.tolist()} == {(0.2, 0.0, 0.0, 0.2)}
    assert agreement(both, given).min() > 0.8


def test_the_search_is_the_same_again(textures: Textures) -> None:
    pictures = textures(300)
    both = torch.cat([pictures, altered(pictures[:30], cuts=[0.1, 0.0, 0.0, 0.0])]).numpy()
    assert near_pairs(both, seed=3) == near_pairs(both, seed=3)
