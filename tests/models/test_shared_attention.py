"""What rows share is read once, and each reads what it would by itself."""

import pytest
import torch
from torch.nn import functional

from mmmed.models.shared_attention import LEAST, is_shared, shared_attention


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("own", [1, 9])
@pytest.mark.parametrize("mask", ["none", "holes", "window"])
def test_each_row_reads_what_it_would_by_itself(heads: tuple[int, int], own: int, mask: str) -> None:
    torch.manual_seed(0)
    rows, alike, width, (queries, groups) = 5, 70, 16, heads
    query = torch.randn(rows, queries, 1, width)
    key, value = torch.randn(2, rows, groups, alike + own, width)
    for one in (key, value):
        one[:, :, :alike] = one[0, :, :alike]
    seen = torch.ones(rows, 1, 1, alike + own, dtype=torch.bool)
    if mask == "holes":
        seen[..., alike:-1] = torch.rand(rows, 1, 1, own - 1) < 0.5
    elif mask == "window":
        seen[..., : alike - 20] = False
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min) if mask != "none" else None
    read = shared_attention(query, key, value, added, alike=alike, scaling=0.3)
    expected = functional.scaled_dot_product_attention(
        query.double(), key.double(), value.double(), seen, scale=0.3, enable_gqa=True
    )
    assert read.shape == (rows, 1, queries, width)
    assert torch.allclose(read.double(), expected.transpose(1, 2), atol=1e-6)


def test_it_is_for_several_rows_of_one_token_behind_a_long_beginning() -> None:
    query = torch.zeros(2, 4, 1, 8)
    assert is_shared(query, LEAST)
    assert not is_shared(query, LEAST - 1)
    assert not is_shared(query[:1], LEAST)
    assert not is_shared(query.expand(2, 4, 3, 8), LEAST)
    assert not is_shared(query.bfloat16(), LEAST)
