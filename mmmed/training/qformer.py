"""The first stage of BLIP-2: a Q-Former learns to read images beside their texts, before a language model comes in."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from mmmed.errors import ConfigError, RecordError
from mmmed.models.parts import ModelOfParts
from mmmed.models.qformer import QFormerProjector
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

# The temperature is learned between these, as in the authors' code.
_TEMPERATURES = (0.001, 0.5)

# Shape letters: B batch (one image and one text each), T text tokens, N image tokens, W vision width, M pairs.


class QFormerLoss:
    """The sum of three losses over images and their texts, which are the supervised words of each example.

    Contrastive: each image is to be nearest to its own text, and each text to its own image; texts that are equal
    word for word count as one another's. Matching: a pair is to be told from the image with another text and from
    the text with another image, both drawn by their similarity, so that near ones are drawn most. Captioning: the
    text is to be written from what the queries read.

    The second stage is an ordinary one: `AnswerLoss`, with the projector from here (`init_from`). Each stage freezes
    what it does not use.

    Args:
        smoothing: Label smoothing of the contrastive loss.

    Raises:
        ConfigError: The projector is no Q-Former that reads text.
        RecordError: An example has no image or several.

    Source: Li et al., BLIP-2 (2023), section 3.2; hard negatives: Li et al., ALBEF (2021), section 3.2. The smoothing
    of 0.1 is of the authors' code. There negatives come from all processes; here from the process's own batch.
    """

    def __init__(self, smoothing: float = 0.1) -> None:
        self.smoothing = smoothing
        self._measures: dict[str, Tensor] = {}

    def prepare(self, processor: Processor, examples: Iterable[Example]) -> None:
        """Nothing to learn."""

    def measures(self) -> dict[str, Tensor]:
        """The three losses of the last batch."""
        return self._measures

    def loss(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        """Contrastive, matching and captioning loss, summed."""
        projector = model.projector
        if not isinstance(projector, QFormerProjector) or not projector.reads_text:
            raise ConfigError(
                f"QFormerLoss teaches a QFormerProjector with a `vocabulary`; the projector is {projector!r:.60}"
            )
        batch.check_padded("the Q-Former objective")
        images = batch.is_image_BT.sum(1) // max(1, model.tokens_per_image)
        if not bool((images == 1).all()):
            raise RecordError(f"QFormerLoss pairs one image with one text; a batch has {images.tolist()} images")
        features_BNW = model.look(batch.pixels_NCHW, kept=batch.kept)
        ids_BT, attention_BT = supervised_texts(batch)
        same_BB = same_text(ids_BT, attention_BT)
        whole_BT, ones_BT = _led_by(projector.whole_text_id, ids_BT), _led_by(1, attention_BT)
        similarity_BB = projector.similarity(projector.read(features_BNW, whole_BT, ones_BT, sight="apart"))
        similarity_BB = similarity_BB / projector.temperature.clamp(*_TEMPERATURES)
        contrastive = self._contrastive(similarity_BB, same_BB)
        matching = _matching(projector, features_BNW, whole_BT, ones_BT, similarity_BB.detach(), same_BB)
        captioning = _captioning(projector, features_BNW, ids_BT, attention_BT)
        parts = {"contrastive": contrastive, "matching": matching, "captioning": captioning}
        self._measures = {name: part.detach() for name, part in parts.items()}
        return contrastive + matching + captioning

    def _contrastive(self, similarity_BB: Tensor, same_BB: Tensor) -> Tensor:
        targets_BB = same_BB / same_BB.sum(1, keepdim=True)
        return (
            cross_entropy(similarity_BB, targets_BB, label_smoothing=self.smoothing)
            + cross_entropy(similarity_BB.T, targets_BB, label_smoothing=self.smoothing)
        ) / 2


def freeze_idle_side(model: ModelOfParts, objective: object) -> None:
    """Freeze what the other stage of a Q-Former teaches: without a gradient it would stop distributed training.

    The first stage has no use for the way to the language model, and every other one none for the text's parameters.
    """
    for module in model.modules():
        if isinstance(module, QFormerProjector):
            reads = isinstance(objective, QFormerLoss)
            idle = module.language_projection.parameters() if reads else module.text_side()
            for parameter in idle:
                parameter.requires_grad_(False)


def supervised_texts(batch: Batch) -> tuple[Tensor, Tensor]:
    """The supervised tokens of each example, padded on the right with 0, and 1 where there is one."""
    texts = [ids[supervised] for ids, supervised in zip(batch.ids_BT, batch.supervised_BT, strict=True)]
    return pad_sequence(texts, batch_first=True), pad_sequence([torch.ones_like(text) for text in texts], True)


def same_text(ids_BT: Tensor, attention_BT: Tensor) -> Tensor:
    """Which texts are equal word for word (B, B)."""
    words_BT = ids_BT.where(attention_BT.bool(), -1)
    return (words_BT[:, None] == words_BT[None]).all(-1)


def draw_negatives(similarity_BB: Tensor, same_BB: Tensor) -> tuple[Tensor, Tensor]:
    """For each row that has one, a column of another text, drawn by the softmax of the similarity.

    Returns:
        The rows, and the column drawn for each.
    """
    chances_BB = similarity_BB.float().masked_fill(same_BB, float("-inf"))
    rows = (~same_BB).any(1).nonzero()[:, 0]
    if not len(rows):
        return rows, rows
    return rows, torch.multinomial(chances_BB[rows].softmax(-1), 1)[:, 0]


def _matching(
    projector: QFormerProjector,
    features_BNW: Tensor,
    ids_BT: Tensor,
    attention_BT: Tensor,
    similarity_BB: Tensor,
    same_BB: Tensor,
) -> Tensor:
    own = torch.arange(len(ids_BT), device=ids_BT.device)
    images, other_texts = draw_negatives(similarity_BB, same_BB)
    texts, other_images = draw_negatives(similarity_BB.T, same_BB)
    images_M, texts_M = torch.cat([own, images, other_images]), torch.cat([own, other_texts, texts])
    read = projector.read(features_BNW[images_M], ids_BT[texts_M], attention_BT[texts_M], sight="together")
    matches_M = (torch.arange(len(images_M), device=own.device) < len(own)).long()
    return cross_entropy(projector.match_logits(read), matches_M)


def _captioning(projector: QFormerProjector, features_BNW: Tensor, ids_BT: Tensor, attention_BT: Tensor) -> Tensor:
    led_BT = _led_by(projector.caption_id, ids_BT[:, :-1])
    read = projector.read(features_BNW, led_BT, attention_BT, sight="captioning")
    there_BT = attention_BT.bool()
    return cross_entropy(projector.caption_logits(read.text_BTD[there_BT]), ids_BT[there_BT])


def _led_by(first: int, ids_BT: Tensor) -> Tensor:
    return torch.cat([ids_BT.new_full((len(ids_BT), 1), first), ids_BT], dim=1)
