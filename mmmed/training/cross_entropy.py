"""Cross-entropy over a large vocabulary without its logits: a few hundred tokens at a time."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# Shape letters: S supervised tokens, D width, V vocabulary.

ELEMENTS = 2**25
"""Most logits that exist at once: 128 MiB in float32, but for what follows."""
LEAST = 512
"""Tokens that are read at once, however large the vocabulary: for fewer, what is done with the matrix itself (to make a
copy of it in bfloat16, to add to its gradient) takes as long as the logits."""


def cross_entropy(
    head: Callable[[Tensor], Tensor], hidden_SD: Tensor, ids_S: Tensor, *, elements: int = ELEMENTS, least: int = LEAST
) -> Tensor:
    """Mean cross-entropy of the tokens that follow hidden states.

    Where all logits would be more than that, those of a few tokens are made at a time, and made again for the
    gradient; so a step keeps hidden states (S, D) and never (S, V).

    Args:
        head: From hidden states (S, D) to logits (S, V).
        hidden_SD: What the tokens are predicted from.
        ids_S: The tokens.
        elements: Most logits that exist at once, unless `least` tokens have more.
        least: Tokens that are read at once.
    """
    if not len(ids_S):
        return hidden_SD.sum() * 0.0
    with torch.no_grad():
        vocabulary = head(hidden_SD[:1].detach()).shape[-1]
    size = max(least, elements // vocabulary)
    if len(ids_S) <= size:
        return functional.cross_entropy(head(hidden_SD).float(), ids_S)
    parts = zip(torch.split(hidden_SD, size), torch.split(ids_S, size), strict=True)
    sums = [checkpoint(_summed, head, hidden, ids, use_reentrant=False) for hidden, ids in parts]
    return torch.stack(sums).sum() / len(ids_S)


def _summed(head: Callable[[Tensor], Tensor], hidden_SD: Tensor, ids_S: Tensor) -> Tensor:
    return functional.cross_entropy(head(hidden_SD).float(), ids_S, reduction="sum")
