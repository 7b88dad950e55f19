"""From single model inputs to one padded batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmmed.models.vlm import Batch
from mmmed.processing.processor import ModelInput


def pad(inputs: Sequence[ModelInput], *, image_id: int, left: bool = False) -> Batch:
    """Pad to the longest sequence: on the right to train and to score, on the left to generate.

    Returns:
        A batch whose images stand in reading order.
    """
    side = "left" if left else "right"

    def padded(sequences: list[Tensor]) -> Tensor:
        return pad_sequence(sequences, batch_first=True, padding_side=side)

    ids_BT = padded([one.ids for one in inputs])
    return Batch(
        ids_BT=ids_BT,
        attention_BT=padded([torch.ones_like(one.ids) for one in inputs]),
        supervised_BT=padded([one.supervised for one in inputs]),
        is_image_BT=ids_BT == image_id,
        pixels_NCHW=torch.cat([one.pixels for one in inputs]),
    )
