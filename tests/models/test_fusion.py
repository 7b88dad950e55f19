"""Image features stand where the placeholders stood, in reading order."""

import pytest
import torch
from torch import Tensor

from mmmed.errors import RecordError
from mmmed.models.fusion import splice


def one_by_one(embeddings_BTD: Tensor, features_NKD: Tensor, is_image_BT: Tensor) -> Tensor:
    spliced = embeddings_BTD.clone()
    rest = iter(features_NKD.flatten(0, 1))
    for row, column in is_image_BT.nonzero().tolist():
        spliced[row, column] = next(rest)
    return spliced


def test_splice_equals_a_loop_over_places() -> None:
    torch.manual_seed(0)
    embeddings_BTD, features_NKD = torch.randn(3, 9, 4), torch.randn(3, 2, 4)
    is_image_BT = torch.zeros(3, 9, dtype=torch.bool)
    is_image_BT[0, 1:3] = is_image_BT[2, 0:2] = is_image_BT[2, 5:7] = True
    expected = one_by_one(embeddings_BTD, features_NKD, is_image_BT)
    assert torch.equal(splice(embeddings_BTD, features_NKD, is_image_BT), expected)


def test_features_of_lower_precision_take_that_of_the_words() -> None:
    spliced = splice(torch.zeros(1, 2, 3), torch.ones(1, 1, 3, dtype=torch.bfloat16), torch.tensor([[False, True]]))
    assert spliced.dtype == torch.float32
    assert spliced[0, 1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("images", [0, 2])
def test_another_number_of_images_than_placeholders_is_refused(images: int) -> None:
    with pytest.raises(RecordError, match=f"2 image places in the text for {2 * images} image features"):
        splice(torch.zeros(1, 4, 3), torch.ones(images, 2, 3), torch.tensor([[True, True, False, False]]))
