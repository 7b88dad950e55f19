"""From single model inputs to one padded batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmmed.errors import RecordError
from mmmed.models.vlm import Batch
from mmmed.processing.processor import ModelInput


def pad(inputs: Sequence[ModelInput], *, image_id: int, left: bool = False) -> Batch:
    """Pad to the longest sequence: on the right to train and to score, on the left to generate.

    Returns:
        A batch whose images stand in reading order.

    Raises:
        RecordError: Some examples are preferences and others are not.
    """
    side = "left" if left else "right"
    rejected = [one.rejected for one in inputs if one.rejected is not None]
    if 0 < len(rejected) < len(inputs):
        alone = next(one for one in inputs if one.rejected is None)
        raise RecordError(
            f"{alone.id}: no rejected answer, as others of its batch have; train preferences by themselves"
        )

    def padded(sequences: list[Tensor]) -> Tensor:
        return pad_sequence(sequences, batch_first=True, padding_side=side)

    ids_BT = padded([one.ids for one in inputs])
    return Batch(
        ids_BT=ids_BT,
        attention_BT=padded([torch.ones_like(one.ids) for one in inputs]),
        supervised_BT=padded([one.supervised for one in inputs]),
        is_image_BT=ids_BT == image_id,
        pixels_NCHW=torch.cat([one.pixels for one in inputs]),
        rejected=pad(rejected, image_id=image_id, left=left) if rejected else None,
    )
