"""What workers send to the training process: each batch in one piece.

A tensor that is sent by itself costs a file of shared memory and several messages, which for the few kilobytes of token
ids and masks takes longer than making them.
"""

import io
import pickle
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

SMALL = 2**16
"""Bytes of a tensor up to which it is sent in the message itself."""

_PLAIN = (torch.bool, torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64)


class Sending:
    """Collates, and in a worker makes one piece of what was collated; whoever receives it has the same as without.

    Args:
        collate: From single inputs to a batch.
    """

    def __init__(self, collate: Callable[[Sequence[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, inputs: Sequence[Any]) -> Any:
        batch = self.collate(inputs)
        return batch if get_worker_info() is None else Parcel(batch)


class Parcel:
    """Pickled, it is what it holds."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        written = io.BytesIO()
        _Pickler(written, pickle.HIGHEST_PROTOCOL).dump(self.content)
        return pickle.loads, (written.getvalue(),)


class _Pickler(ForkingPickler):
    """Writes small tensors as arrays, and leaves large ones to torch, which shares their memory."""

    def reducer_override(self, one: Any) -> Any:
        if type(one) is not Tensor or one.nbytes > SMALL or one.requires_grad or one.dtype not in _PLAIN:
            return NotImplemented
        return torch.from_numpy, (one.numpy(),)
