"""Image features spliced into a sequence of token embeddings: one boolean mask, no copies of positions."""

from torch import Tensor

from mmmed.errors import RecordError

# Shape letters: B batch, T tokens, D language width, N images, K tokens per image.


def splice(embeddings_BTD: Tensor, features_NKD: Tensor, is_image_BT: Tensor) -> Tensor:
    """Put the features of image after image where the mask says image, in reading order.

    Returns:
        Embeddings (B, T, D) with every masked place replaced.

    Raises:
        RecordError: The mask has another number of places than there are features.
    """
    places, features = int(is_image_BT.sum()), features_NKD.shape[0] * features_NKD.shape[1]
    if places != features:
        raise RecordError(f"{places} image places in the text for {features} image features; one image per placeholder")
    spliced: Tensor = embeddings_BTD.masked_scatter(
        is_image_BT.unsqueeze(-1), features_NKD.to(embeddings_BTD.dtype).reshape(-1, embeddings_BTD.shape[-1])
    )
    return spliced
