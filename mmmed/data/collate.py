"""From single model inputs to one batch: padded, or packed into one row."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmmed.errors import RecordError
from mmmed.models.features import Kept
from mmmed.models.packing import lay
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
        **_images([(one, place) for one in inputs for place in range(one.images)], inputs),
        rejected=pad(rejected, image_id=image_id, left=left) if rejected else None,
    )


def pack(inputs: Sequence[ModelInput], *, image_id: int) -> Batch:
    """Lay all sequences in one row, those about the same images as the branches of one tree.

    What conversations about the same images begin with alike (system prompt, images, words) stands once, up to the
    first token that one of them learns; each image stands once for all that share it. What is learned is the same as
    from the padded batch.

    Raises:
        RecordError: An example is a preference, or has another number of image places than its images fill.
    """
    if compared := [one for one in inputs if one.rejected is not None]:
        raise RecordError(f"{compared[0].id}: preferences cannot be packed; set packing: null of the data")
    known: dict[str, int] = {}
    groups: dict[tuple[str, ...], int] = {}
    for place, one in enumerate(inputs):
        for name in one.pictures:
            known.setdefault(name, len(known))
        groups.setdefault(_group(one, place), len(groups))
    row, layout = lay(
        [_told_apart(one, known, image_id=image_id) for one in inputs],
        shareable=[_before_answers(one) for one in inputs],
        groups=[groups[_group(one, place)] for place, one in enumerate(inputs)],
    )
    pictures: list[tuple[ModelInput, int]] = []
    numbers: list[int] = []
    for index, begin, end in row:
        one = inputs[index]
        tokens = _tokens_per_image(one, image_id=image_id)
        is_image = one.ids == image_id
        first, after = (int(is_image[:place].sum()) // tokens if tokens else 0 for place in (begin, end))
        pictures += [(one, place) for place in range(first, after)]
        numbers += range(first, after)
    ids_BT = torch.cat([inputs[index].ids[begin:end] for index, begin, end in row]).unsqueeze(0)
    return Batch(
        ids_BT=ids_BT,
        attention_BT=torch.ones_like(ids_BT),
        supervised_BT=torch.cat([inputs[index].supervised[begin:end] for index, begin, end in row]).unsqueeze(0),
        is_image_BT=ids_BT == image_id,
        **_images(pictures, inputs),
        layout=replace(layout, numbers_N=torch.tensor(numbers, dtype=torch.long)),
    )


def _images(pictures: Sequence[tuple[ModelInput, int]], inputs: Sequence[ModelInput]) -> dict[str, Any]:
    """What a batch holds of images that are named by their input and their place in it."""
    nothing = torch.cat([one.pixels[:0] for one in inputs])
    known = [(one.known, place) for one, place in pictures if one.known is not None]
    pixels = [shown for one, place in pictures if (shown := _pixels(one, place)) is not None]
    pixels_NCHW = torch.stack(pixels) if pixels else nothing
    if not known:
        return {"pixels_NCHW": pixels_NCHW}
    keys, features = [one.keys[place] for one, place in known], [one.features[place] for one, place in known]
    kept = Kept.of(known[0][0].folder, keys, features)
    return {"pixels_NCHW": pixels_NCHW, "kept": kept}


def _pixels(one: ModelInput, place: int) -> Tensor | None:
    """Pixels of an image, None where its features stand for them."""
    if one.known is None:
        return one.pixels[place]
    if one.known.features[place] is not None:
        return None
    return one.pixels[sum(features is None for features in one.known.features[:place])]


def _group(one: ModelInput, place: int) -> tuple[str, ...]:
    """Which conversations may share their beginning: those about the same images; one without images is alone."""
    return one.pictures or (f"{place}:{one.id}",)


def _told_apart(one: ModelInput, known: dict[str, int], *, image_id: int) -> list[int]:
    """Token ids, and below zero in the place of an image's the number of that image."""
    told: list[int] = one.ids.tolist()
    tokens = _tokens_per_image(one, image_id=image_id)
    for nth, place in enumerate((one.ids == image_id).nonzero()[:, 0].tolist()):
        told[place] = -1 - known[one.pictures[nth // tokens]]
    return told


def _tokens_per_image(one: ModelInput, *, image_id: int) -> int:
    places, images = int((one.ids == image_id).sum()), one.images
    if places and (not images or places % images or len(one.pictures) != images):
        raise RecordError(f"{one.id}: {places} image places for {images} images; one image per placeholder")
    return places // images if images else 0


def _before_answers(one: ModelInput) -> int:
    """Tokens before the first that is learned."""
    learned = one.supervised.nonzero()
    return int(learned[0]) if len(learned) else len(one.ids)
