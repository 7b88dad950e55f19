"""Attention by blocks reads what attention reads, and has its gradients."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mmmed.models import tree_attention as padded
from mmmed.models import tree_reading as trees
from mmmed.models.block_attention import BLOCK, Side, Span, block_attention, side_by_side
from mmmed.models.packing import Layout, Tree, dense_mask, one_after_another
from mmmed.models.tree_row import Before, tree_row

SCALING = 0.25
Rows = tuple[Tensor, Tensor, Tensor]


def rows(heads: int, groups: int, queries: int, keys: int) -> Rows:
    torch.manual_seed(queries)
    shapes = ((heads, queries), (groups, keys), (groups, keys))
    query, key, value = (torch.randn(1, *shape, 16).bfloat16() for shape in shapes)
    return query, key, value


def mask_of(queries: int, keys: int, *, hidden: bool) -> Tensor:
    """Each sees those before it; some of them are hidden, itself never."""
    seen = torch.ones(queries, keys).tril(keys - queries).bool()
    if hidden:
        torch.manual_seed(0)
        seen &= (torch.rand(queries, keys) < 0.6) | torch.eye(keys)[-queries:].bool()
    return torch.zeros(queries, keys).masked_fill(~seen, -torch.inf)


def learned(attend: object, given: Rows, dtype: torch.dtype) -> list[Tensor]:
    inputs = [one.to(dtype).requires_grad_() for one in given]
    read = attend(*inputs)  # type: ignore[operator]
    torch.manual_seed(1)
    found = torch.autograd.grad(read, inputs, torch.randn(read.shape).bfloat16().to(read.dtype))
    return [read.detach().double(), *(one.double() for one in found)]


def distances(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    # A single token has no gradient at its query and key, but what is rounded.
    return [float((one - other).norm() / other.norm().clamp(min=1)) for one, other in zip(found, expected, strict=True)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many queries each span of it has had."""
    found: list[int] = []

    def noted(query: Tensor, key: Tensor, value: Tensor, sides: list[Side], *, scaling: float) -> Tensor:
        found.extend(one.end - one.begin for side in sides for one in side.spans)
        return block_attention(query, key, value, sides, scaling=scaling)

    for module in (padded, trees):
        monkeypatch.setattr(module, "block_attention", noted)
    return found


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("queries", [1, 5, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("kind", ["causal", "behind a trunk", "hidden"])
def test_it_is_attention(heads: tuple[int, int], queries: int, kind: str) -> None:
    keys = queries + (40 if kind == "behind a trunk" else 0)
    given = rows(*heads, queries, keys)
    mask = mask_of(queries, keys, hidden=kind == "hidden")

    def usual(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(
            query, key, value, mask.to(query.dtype), scale=SCALING, enable_gqa=True
        )

    def blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        whole = Span(0, queries, 0, keys, None if kind == "causal" else mask)
        return block_attention(query, key, value, side_by_side([whole]), scaling=SCALING)

    expected = learned(usual, given, torch.float64)
    for attend in (blocks, usual):  # torch's own kernel is no nearer than that
        assert max(distances(learned(attend, given, torch.bfloat16), expected)) < 0.01


@pytest.mark.parametrize("root", [0, 5])
def test_trees_of_about_one_length_are_read_side_by_side(root: int) -> None:
    lengths = [120, 260, 250, 30, 255, 118, 1500, 257, 1, 1]
    ends = torch.tensor(lengths).cumsum(0) + root
    trees = [Span(end - one, end, end - one, end, None, root) for end, one in zip(ends.tolist(), lengths, strict=True)]
    spans = [Span(0, root, 0, root, None)] * bool(root) + trees
    sides = side_by_side(spans)
    assert sorted(span for side in sides for span in side.spans) == sorted(spans)
    read_together = sorted([span.end - span.begin for span in side.spans] for side in sides if len(side.spans) > 1)
    assert read_together == [[1, 1], [120, 118], [260, 257, 255, 250]]
    tokens = int(ends[-1])
    number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    number = torch.cat([torch.full((root,), -1), number])
    mine = (number[:, None] == number) | (torch.arange(tokens) < root)
    mask = torch.zeros(tokens, tokens).masked_fill(~(mine & torch.ones(tokens, tokens).tril().bool()), -torch.inf)

    def usual(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(
            query, key, value, mask.to(query.dtype), scale=SCALING, enable_gqa=True
        )

    def blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return block_attention(query, key, value, sides, scaling=SCALING)

    given = rows(6, 2, tokens, tokens)
    expected = learned(usual, given, torch.float64)
    assert max(distances(learned(blocks, given, torch.bfloat16), expected)) < 0.01


def test_under_autocast_it_is_the_same_to_the_bit() -> None:
    given = rows(6, 2, 50, 50)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return block_attention(query, key, value, side_by_side([Span(0, 50, 0, 50, None)]), scaling=SCALING)

    plain = learned(attend, given, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        cast = learned(attend, given, torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("root", [0, 4])
@pytest.mark.parametrize("faster", [True, False])
def test_a_packed_row_takes_it_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, asked: list[int], faster: bool, root: int, window: int | None
) -> None:
    monkeypatch.setattr(trees, "is_faster", lambda: faster)
    ends = torch.tensor([20] * root + [12] * (6 - root) + [9] * 3 + [12] * 3 + [20] * 8)
    layout = Layout(
        positions_T=torch.cat([torch.arange(9), torch.arange(6, 9), torch.arange(root, root + 8)]),
        ends_T=ends,
        before_T=torch.arange(20) - 1,
        numbers_N=torch.zeros(0, dtype=torch.long),
        trees=(Tree(root, 6, 12), Tree(12, 20, 20)),
        conversations=3,
        root=root,
    )
    row = tree_row(layout, dtype=torch.bfloat16, window=window)
    given = rows(6, 2, 20, 20)
    read = trees.by_tree(*given, row)
    # What reaches beyond a window is read under one mask, without a trunk.
    spans = [root] * (root > 0) + ([6 - root, 6, 8] if window is None else [12 - root, 8])
    assert sorted(asked) == (sorted(spans) if faster else [])
    places = layout.positions_T
    seen = dense_mask(ends) & (places[:, None] - places < (window or 20))
    mask = torch.zeros(20, 20).masked_fill(~seen, -torch.inf)
    expected = functional.scaled_dot_product_attention(*(one.double() for one in given), mask.double(), enable_gqa=True)
    assert (read.double() - expected).norm() < 0.008 * expected.norm()
    # Gradients of what several spans see come together.
    ours, exact = (learned(partial(trees.by_tree, tree=row), given, one) for one in (torch.bfloat16, torch.float64))
    assert max(distances(ours, exact)) < 0.01
    del asked[len(spans) * faster :]
    assert trees.by_tree(*(one.float() for one in given), row).dtype == torch.float32
    assert len(asked) == (len(spans) if faster else 0)


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("faster", [True, False])
def test_trees_that_go_on_from_what_was_read_take_it(
    monkeypatch: pytest.MonkeyPatch, asked: list[int], faster: bool, window: int | None
) -> None:
    monkeypatch.setattr(trees, "is_faster", lambda: faster)
    lengths, rows_before, tokens = [9, 10, 4, 9], [0, 0, 1, 1], [12, 7]
    _, kept_keys, kept_values = rows(2, 2, 1, 24)
    layer = SimpleNamespace(keys=kept_keys.view(2, 2, 12, 16), values=kept_values.view(2, 2, 12, 16))
    behind = [tokens[row] for row in rows_before]
    cache: Any = SimpleNamespace(layers=[None, layer])
    before = Before(cache, rows_before, [slice(one) for one in behind], behind)
    layout = one_after_another([(first, first + length) for first, length in zip(behind, lengths, strict=True)])
    query, key, value = rows(6, 2, sum(lengths), sum(lengths))
    row = tree_row(layout, dtype=torch.bfloat16, before=before, window=window)
    read = trees.read_on(query, key, value, row, before, layer=1)
    # Those of one length behind as many tokens are read side by side, unless under a mask.
    sizes = [len(side.spans) for side in row.sides or ()]
    assert sorted(sizes) == (([1, 1, 2] if window is None else [1] * 4) if faster else [])
    assert sorted(asked) == (sorted(lengths) if faster else [])
    expected = []
    for number, (begin, _, end) in enumerate(layout.trees):
        own = [one[:, :, begin:end] for one in (query, key, value)]
        seen = [torch.cat(two, dim=2).double() for two in zip(before.of(1, number), own[1:], strict=True)]
        queries, keys = end - begin, end - begin + behind[number]
        sees = torch.ones(queries, keys).bool().tril(keys - queries).triu(keys - queries + 1 - (window or keys))
        expected.append(functional.scaled_dot_product_attention(own[0].double(), *seen, sees, enable_gqa=True))
    together = torch.cat(expected, dim=2)
    assert (read.double() - together).norm() < 0.008 * together.norm()


@pytest.mark.parametrize(("documents", "learns", "taken"), [(8, True, True), (8, False, False), (2, True, False)])
def test_with_tiles_it_is_taken_where_many_documents_learn(
    monkeypatch: pytest.MonkeyPatch, asked: list[int], documents: int, learns: bool, taken: bool
) -> None:
    monkeypatch.setattr(trees, "is_faster", lambda: False)
    monkeypatch.setattr(trees, "has_tiles", lambda: True)
    row = tree_row(one_after_another([(0, 9)] * documents), dtype=torch.bfloat16)
    given = [one.requires_grad_(learns) for one in rows(6, 2, 9 * documents, 9 * documents)]
    trees.by_tree(*given, row)
    assert asked == [9] * documents * taken


@pytest.mark.parametrize("mask", ["none", "of places", "padding in front"])
@pytest.mark.parametrize("queries", [padded.LONG - 1, padded.LONG + 1])
def test_padded_rows_take_it_where_they_are_long(
    monkeypatch: pytest.MonkeyPatch, asked: list[int], mask: str, queries: int
) -> None:
    monkeypatch.setattr(padded, "is_faster", lambda: True)
    keys = queries + (7 if mask == "of places" else 0)
    query, key, value = (torch.cat([one, one.flip(2)]) for one in rows(6, 2, queries, keys))
    seen = torch.ones(2, 1, queries, keys).tril(keys - queries).bool()
    if mask != "none":
        seen[1, :, :, :5] = False  # the first queries of a padded row then see nobody
    module = torch.nn.Module()
    module.num_key_value_groups = 3  # type: ignore[assignment]
    given = None if mask == "none" else seen
    read, _ = padded.tree_attention(module, query, key, value, given, scaling=SCALING)
    assert asked == ([queries] * 2 if queries >= padded.LONG else [])
    assert read.isfinite().all()
    wide = [one.double() for one in (query, key, value)]
    expected = functional.scaled_dot_product_attention(*wide, seen, scale=SCALING, enable_gqa=True).transpose(1, 2)
    real = slice(5, None) if mask == "padding in front" else slice(None)
    assert (read[:, real].double() - expected[:, real]).norm() < 0.008 * expected[:, real].norm()
