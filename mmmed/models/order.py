"""Which of an example's pictures is which: the first film and the follow-up, or the slices of a volume.

Shape letters: B batch, T tokens, N images, K tokens per image, D language width.
"""

import torch
from torch import Tensor, nn

from mmmed.errors import RecordError


class PictureOrder(nn.Module):
    """Adds to all tokens of a picture a learned vector for its place in its example.

    Place 0 is the example's first picture: of prior studies the oldest, if the source gives them in that order; of
    a volume the first slice. All vectors are zero at first, so that a model begins as if it had none.

    Args:
        places: Most pictures that an example has.
        width: Of the language model's token embeddings.
    """

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.places = places
        self.embedding = nn.Embedding(places, width)
        nn.init.zeros_(self.embedding.weight)

    def forward(self, features_NKD: Tensor, place_N: Tensor) -> Tensor:
        """Mark the features of all pictures of a batch, in reading order, each with its place in its example.

        Raises:
            RecordError: An example has more pictures than there are places.
        """
        most = int(place_N.max()) + 1 if len(place_N) else 0
        if most > self.places:
            raise RecordError(
                f"an example has {most} pictures, more than the model's order: {self.places}; raise order"
            )
        if len(place_N) != len(features_NKD):
            return features_NKD  # the splice refuses what has not one picture per placeholder, and says so
        marked: Tensor = features_NKD + self.embedding(place_N).to(features_NKD.dtype).unsqueeze(1)
        return marked


def picture_places(is_image_BT: Tensor, *, tokens: int) -> Tensor:
    """Place of each picture of a batch in its own example (N,), in reading order.

    Args:
        is_image_BT: Where image features go.
        tokens: Tokens that a picture takes.
    """
    nth_BT = is_image_BT.cumsum(1) - 1
    begins_BT = is_image_BT & (nth_BT % tokens == 0)
    return torch.div(nth_BT, tokens, rounding_mode="floor")[begins_BT]
