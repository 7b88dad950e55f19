"""Attention of answers under way whose questions begin alike: keys and values of that beginning are read once for all.

Eight questions about one image have nearly all they look back on in common. What each query takes of it are the rows of
one product with keys that stand there once, instead of a product of its own with a copy of them.

Letters in tensor names: R rows, H heads of queries, G of keys, E heads of queries that have the same key, A places that
are alike, K places in all, C head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 64
"""Places from which on it is worth it."""


def is_shared(query_RHTC: Tensor, alike: int) -> bool:
    """Whether several rows read one token each, in float32 on a CPU, behind a beginning that is long enough."""
    rows, _, tokens, _ = query_RHTC.shape
    kind, device = query_RHTC.dtype, query_RHTC.device.type
    return alike >= LEAST and rows > 1 and tokens == 1 and kind == torch.float32 and device == "cpu"


def shared_attention(
    query_RH1C: Tensor,
    key_RGKC: Tensor,
    value_RGKC: Tensor,
    added_R11K: Tensor | None,
    *,
    alike: int,
    scaling: float,
) -> Tensor:
    """What each row reads (R, 1, H, C).

    Args:
        query_RH1C: Of the next token of each row.
        key_RGKC: H is a multiple of G; the first `alike` places are the same in all rows.
        value_RGKC: As keys.
        added_R11K: Added to the products of queries and keys; None adds nothing.
        alike: Below K.
        scaling: Of those products.
    """
    rows, heads, _, width = query_RH1C.shape
    groups = key_RGKC.shape[1]
    query_RGEC = (query_RH1C * scaling).reshape(rows, groups, heads // groups, width)
    of_alike_GNA = torch.bmm(_together(query_RGEC), key_RGKC[0, :, :alike].mT)
    own_RGEK = query_RGEC @ key_RGKC[:, :, alike:].mT
    products_RGEK = torch.cat([_apart(of_alike_GNA, rows), own_RGEK], dim=-1)
    if added_R11K is not None:
        products_RGEK += added_R11K
    weights_RGEK = products_RGEK.softmax(-1)
    read_RGEC = weights_RGEK[..., alike:] @ value_RGKC[:, :, alike:]
    read_RGEC += _apart(torch.bmm(_together(weights_RGEK[..., :alike]), value_RGKC[0, :, :alike]), rows)
    return read_RGEC.reshape(rows, 1, heads, width)


def _together(one_RGEC: Tensor) -> Tensor:
    """All rows of one group of heads one after another (G, R x E, C)."""
    return one_RGEC.transpose(0, 1).flatten(1, 2)


def _apart(one_GNC: Tensor, rows: int) -> Tensor:
    """The way back (R, G, E, C)."""
    groups, _, width = one_GNC.shape
    return one_GNC.view(groups, rows, -1, width).transpose(0, 1)
