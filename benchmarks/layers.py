"""Layers of a language model on a CPU against torch's own: products in float32, learning and answering; attention in
bfloat16.

    python benchmarks/layers.py [pairs]

Shapes are those of SmolLM2-135M. What learns is run forward and backward, what answers forward. Both sides are held
against float64 first, and timed in turns. Rows are made on processors that they are used on (`models/products.py`,
`models/prepacked.py`, `models/block_attention.py`).
"""

import copy
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from measuring import Claim, in_turns, timed, write
from torch import Tensor, nn
from torch.nn import functional

from mmmed.models import block_attention as blocks
from mmmed.models import products
from mmmed.models.prepacked import prepack

AT_LEAST = 1.0
"""Seconds of a run, in which a layer is repeated so often."""
LAYERS, HEADS, GROUPS, WIDTH = 30, 9, 3, 64
FARTHEST = {torch.float32: 1e-5, torch.bfloat16: 0.01}
"""From float64, relative, of the output and each gradient."""


def main() -> None:
    """Print and keep a row for each claim."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if products.is_faster():
        write("layers", [product_row(rows, pairs) for rows in (16, 256, 2048)])
    if products.is_foreign():
        write("layers", [answering_row(rows, pairs) for rows in (1, 8, 16, 256, 2048)])
    if blocks.is_faster():
        write("layers", [attention_row(lengths, pairs) for lengths in ([150], [290], [600], [1000], range(254, 286))])
        write("layers", [behind_row(tokens, pairs) for tokens in (40, 800)])


def product_row(rows: int, pairs: int) -> Claim:
    """A linear layer."""
    torch.manual_seed(0)
    usual = nn.Linear(576, 1536, bias=False)
    fast = nn.Linear(576, 1536, bias=False)
    fast.load_state_dict(usual.state_dict())
    products.use_fastest_products(fast)
    given = torch.randn(rows, 576, requires_grad=True)
    learns = [given, usual.weight], [given, fast.weight]
    return row(
        f"linear layer of 576 x 1536, {rows} rows, float32",
        "torch's own (MKL)",
        theirs=lambda: [usual(given), *learns[0]],
        ours=lambda: [fast(given), *learns[1]],
        exact=lambda: exact(lambda one, weight: one @ weight.t(), [given, usual.weight]),
        pairs=pairs,
    )


class Layer(nn.Module):
    """The products of a layer, which a token goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.o_proj = (nn.Linear(576, 576, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(576, 192, bias=False) for _ in range(2))
        self.gate_proj, self.up_proj = (nn.Linear(576, 1536, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(1536, 576, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        read = self.o_proj(self.q_proj(rows)), self.k_proj(rows), self.v_proj(rows)
        return torch.cat([*read, self.down_proj(self.gate_proj(rows) * self.up_proj(rows))], dim=-1)


def answering_row(rows: int, pairs: int) -> Claim:
    """The products of all layers, whose weights do not fit into the processor's cache, of a model that answers."""
    torch.manual_seed(0)
    usual = nn.ModuleList([Layer() for _ in range(LAYERS)]).eval()
    fast = copy.deepcopy(usual)
    products.use_fastest_products(fast)
    prepack(fast)
    given = torch.randn(rows, 576)

    def run(model: nn.ModuleList) -> Tensor:
        with torch.inference_mode():
            outputs = [layer(given) for layer in model]
        return outputs[0]

    with torch.inference_mode():
        expected = copy.deepcopy(usual[0]).double()(given.double())
    return taken(
        f"products of {LAYERS} layers for {rows} rows, float32, answering",
        "torch's own (MKL)",
        theirs=lambda: [run(usual)],
        ours=lambda: [run(fast)],
        expected=[expected],
        pairs=pairs,
    )


def attention_row(lengths: Sequence[int], pairs: int) -> Claim:
    """Attention of a document, or of a row of several."""
    torch.manual_seed(0)
    shapes = [(HEADS, sum(lengths)), (GROUPS, sum(lengths)), (GROUPS, sum(lengths))]
    given = [torch.randn(1, *shape, WIDTH).bfloat16().requires_grad_() for shape in shapes]
    sides = blocks.side_by_side(
        blocks.Span(end - length, end, end - length, end, None)
        for length, end in zip(lengths, accumulate(lengths), strict=True)
    )

    def usual(*rows: Tensor) -> Tensor:
        documents = zip(*(row.split(list(lengths), dim=2) for row in rows), strict=True)
        read = [functional.scaled_dot_product_attention(*one, is_causal=True, enable_gqa=True) for one in documents]
        return torch.cat(read, dim=2) if len(read) > 1 else read[0]

    what = f"{lengths[0]}" if len(lengths) == 1 else f"{len(lengths)} documents of {min(lengths)} to {max(lengths)}"
    return row(
        f"attention of {what} tokens, bfloat16",
        "torch's fused kernel",
        theirs=lambda: [usual(*given), *given],
        ours=lambda: [blocks.block_attention(*given, sides, scaling=WIDTH**-0.5), *given],
        exact=lambda: exact(usual, given),
        pairs=pairs,
    )


def behind_row(tokens: int, pairs: int) -> Claim:
    """Attention of questions behind a beginning that they share, of a model that answers."""
    torch.manual_seed(0)
    lengths = range(334, 346, 2)
    query = torch.randn(1, HEADS, sum(lengths), WIDTH).bfloat16()
    seen = [torch.randn(1, GROUPS, tokens + sum(lengths), WIDTH).bfloat16() for _ in range(2)]
    begins = [end - length for length, end in zip(lengths, accumulate(lengths), strict=True)]
    sides = blocks.side_by_side(
        blocks.Span(begin, begin + length, number * tokens + begin, (number + 1) * tokens + begin + length, None)
        for number, (begin, length) in enumerate(zip(begins, lengths, strict=True))
    )

    def parts(one: Tensor) -> list[Tensor]:
        return [torch.cat([one[:, :, :tokens], own], dim=2) for own in one[:, :, tokens:].split(list(lengths), dim=2)]

    def usual(query: Tensor, *seen: Tensor) -> Tensor:
        each = zip(query.split(list(lengths), dim=2), *map(parts, seen), strict=True)
        read = [
            functional.scaled_dot_product_attention(one, key, value, seen_by(one, key), enable_gqa=True)
            for one, key, value in each
        ]
        return torch.cat(read, dim=2)

    def ours() -> Tensor:
        keys, values = (torch.cat(parts(one), dim=2) for one in seen)
        return blocks.block_attention(query, keys, values, sides, scaling=WIDTH**-0.5)

    what = f"{len(lengths)} documents of {lengths[0]} to {lengths[-1]} tokens behind {tokens}"
    return taken(
        f"attention of {what}, bfloat16, answering",
        "torch's fused kernel",
        theirs=lambda: [usual(query, *seen)],
        ours=lambda: [ours()],
        expected=[usual(query.double(), *(one.double() for one in seen))],
        pairs=pairs,
    )


def row(
    claim: str,
    peer: str,
    *,
    theirs: Callable[[], list[Tensor]],
    ours: Callable[[], list[Tensor]],
    exact: Callable[[], list[Tensor]],
    pairs: int,
) -> Claim:
    """Time one against the other, forward and backward; each gives its output and what learns."""
    return taken(
        f"{claim}, forward and backward",
        peer,
        theirs=lambda: learned(theirs),
        ours=lambda: learned(ours),
        expected=exact(),
        pairs=pairs,
    )


def taken(
    claim: str,
    peer: str,
    *,
    theirs: Callable[[], list[Tensor]],
    ours: Callable[[], list[Tensor]],
    expected: list[Tensor],
    pairs: int,
) -> Claim:
    """Time one against the other, once neither is far from float64."""
    apart = {name: farthest(run(), expected) for name, run in (("theirs", theirs), ("ours", ours))}
    if max(apart.values()) > FARTHEST[theirs()[0].dtype]:
        raise SystemExit(f"{claim}: {apart} from float64; nothing is timed")

    repeats = round(AT_LEAST / min(timed(theirs).wall for _ in range(3))) + 1

    def repeated(run: Callable[[], list[Tensor]]) -> Callable[[], object]:
        return lambda: [run() and None for _ in range(repeats)]

    return in_turns(
        claim,
        peer=peer,
        theirs=repeated(theirs),
        ours=repeated(ours),
        equal=apart["ours"],
        bar=None,
        pairs=pairs,
        more={"from_float64_theirs": apart["theirs"]},
    )


def seen_by(query: Tensor, key: Tensor) -> Tensor:
    """What each query sees, the last of which stands at the last key."""
    queries, keys = query.shape[2], key.shape[2]
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


def learned(run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Output and gradients."""
    output, *learns = run()
    return [output.detach(), *torch.autograd.grad(output, learns, torch.ones_like(output))]


def exact(compute: Callable[..., Tensor], given: list[Tensor]) -> list[Tensor]:
    """The same in float64."""
    wide = [one.detach().double().requires_grad_() for one in given]
    return learned(lambda: [compute(*wide), *wide])


def farthest(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest relative distance."""
    return max(float((one - other).norm() / other.norm()) for one, other in zip(found, expected, strict=True))


if __name__ == "__main__":
    main()
