"""Padding is on the side it is asked for, and is never read."""

import torch

from mmmed.data.collate import pad
from mmmed.processing.processor import ModelInput

IMAGE_ID = 9


def inputs() -> list[ModelInput]:
    short = ModelInput("a", torch.tensor([5, 6]), torch.tensor([False, True]), torch.zeros(0, 3, 2, 2))
    long = ModelInput("b", torch.tensor([9, 9, 7]), torch.tensor([False, False, True]), torch.ones(1, 3, 2, 2))
    return [short, long]


def test_training_pads_on_the_right() -> None:
    batch = pad(inputs(), image_id=IMAGE_ID)
    assert batch.ids_BT.tolist() == [[5, 6, 0], [9, 9, 7]]
    assert batch.attention_BT.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.supervised_BT.tolist() == [[False, True, False], [False, False, True]]
    assert batch.is_image_BT.tolist() == [[False] * 3, [True, True, False]]
    assert batch.pixels_NCHW.shape == (1, 3, 2, 2)


def test_generation_pads_on_the_left() -> None:
    batch = pad(inputs(), image_id=IMAGE_ID, left=True)
    assert batch.ids_BT.tolist() == [[0, 5, 6], [9, 9, 7]]
    assert batch.attention_BT.tolist() == [[0, 1, 1], [1, 1, 1]]
