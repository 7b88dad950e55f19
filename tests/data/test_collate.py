"""Padding is on the side it is asked for, and is never read; packing holds what is alike once."""

from dataclasses import replace

import pytest
import torch

from mmmed.data.collate import pack, pad
from mmmed.errors import RecordError
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


def about(pictures: tuple[str, ...], *words: int) -> ModelInput:
    """A conversation that begins with images of two tokens each, and whose last word is learned."""
    ids = torch.tensor([IMAGE_ID] * 2 * len(pictures) + list(words))
    pixels = torch.stack([torch.full((3, 2, 2), float(ord(name))) for name in pictures])
    return ModelInput("a", ids, torch.arange(len(ids)) == len(ids) - 1, pixels, pictures=pictures)


def test_conversations_about_the_same_images_share_them_and_no_others() -> None:
    inputs = [about(("x",), 1, 2), about(("y",), 1, 2), about(("x",), 1, 3), about(("x", "y"), 1, 2)]
    batch = pack(inputs, image_id=IMAGE_ID)
    assert batch.ids_BT.tolist() == [[9, 9, 1, 2, 3, 9, 9, 1, 2, 9, 9, 9, 9, 1, 2]]
    assert batch.supervised_BT[0].nonzero()[:, 0].tolist() == [3, 4, 8, 14]
    assert batch.pixels_NCHW[:, 0, 0, 0].tolist() == [ord(name) for name in "xyxy"]
    assert batch.layout.numbers_N.tolist() == [0, 0, 0, 1]
    assert batch.conversations == 4
    assert len(batch.layout.trees) == 3


def test_what_is_learned_is_never_shared() -> None:
    batch = pack([about(("x",), 1, 2), about(("x",), 1, 2)], image_id=IMAGE_ID)
    assert batch.ids_BT.tolist() == [[9, 9, 1, 2, 2]]
    assert batch.learned().ids_S.tolist() == [2, 2]
    assert batch.learned().places_S.tolist() == [2, 2]


def test_preferences_and_images_without_a_place_are_not_packed() -> None:
    one = about(("x",), 1, 2)
    with pytest.raises(RecordError, match="preferences cannot be packed"):
        pack([replace(one, rejected=one)], image_id=IMAGE_ID)
    with pytest.raises(RecordError, match="2 image places for 0 images"):
        pack([replace(one, pixels=torch.zeros(0, 3, 2, 2), pictures=())], image_id=IMAGE_ID)
