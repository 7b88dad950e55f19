import torch

from mmmed.data.leakage.embedding import nearest_pairs


def test_the_nearest_by_angle_are_paired_once() -> None:
    features = torch.eye(6).repeat_interleave(2, 0) + 0.01 * torch.randn(
        12, 6, generator=torch.Generator().manual_seed(0)
    )
    assert nearest_pairs(features, nearest=1) == [(2 * place, 2 * place + 1) for place in range(6)]


def test_what_all_have_in_common_does_not_count() -> None:
    features = torch.eye(4).repeat_interleave(2, 0) + 100.0
    assert nearest_pairs(features, nearest=1) == [(2 * place, 2 * place + 1) for place in range(4)]
