"""What a stage minimises."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from mmmed.errors import ConfigError, DataError
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

# Shape letters: B batch, T tokens, D language width, S supervised tokens, V vocabulary, I images, K tokens per image.


class Objective(Protocol):
    """A loss over a batch."""

    def prepare(self, processor: Processor, examples: Iterable[Example]) -> None:
        """Learn what the loss must know of the training data; the same data gives the same state."""
        ...

    def loss(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        """The mean loss, a scalar."""
        ...


class AnswerLoss:
    """Cross-entropy of the answers' tokens, given all that stands before them; the loss of language models."""

    def prepare(self, processor: Processor, examples: Iterable[Example]) -> None:
        """Nothing to learn."""

    def loss(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        """Mean over the supervised tokens; logits exist for those alone."""
        hidden_BTD = model.language(model.embed(batch), batch.attention_BT)
        predicts_BT = batch.supervised_BT[:, 1:]
        logits_SV = model.language.head(hidden_BTD[:, :-1][predicts_BT])
        return functional.cross_entropy(logits_SV.float(), batch.ids_BT[:, 1:][predicts_BT])


class VocabularyLoss:
    """Teaches a projector to speak in words: the mean image token predicts which words the answer has.

    The language model's output matrix classifies the image's mean token among all subwords; the target spreads
    over the answer's subwords by inverse document frequency. The decoder itself never runs, so that a step costs
    a hundredth of one through it, and the image tokens it leaves behind lie where the words lie.

    Source: Huang et al., Classification Done Right for Vision-Language Pre-Training (2024), section 3, whose
    classifier is here the frozen vocabulary of the language model.

    Raises:
        ConfigError: The model reads no images.
    """

    def __init__(self) -> None:
        self._weights_V = torch.zeros(0)

    def prepare(self, processor: Processor, examples: Iterable[Example]) -> None:
        """Count in how many answers each subword stands.

        Raises:
            DataError: Every answer has the same words, so that there is nothing to learn.
        """
        special = set(processor.prompt.tokenizer.all_special_ids)
        documents = [set(processor.supervised_ids(example)) - special for example in examples]
        counts = Counter(token for document in documents for token in document)
        self._weights_V = torch.zeros(len(processor.prompt.tokenizer))
        for token, count in counts.items():
            self._weights_V[token] = math.log(len(documents) / count)
        if not self._weights_V.any():
            raise DataError("all answers have the same words; the vocabulary objective needs answers that differ")

    def loss(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        """Mean over the examples; each has one image or several, whose tokens are averaged."""
        if model.vision is None:
            raise ConfigError("the vocabulary objective reads images; it cannot train a text-only model")
        tokens_BTD = model.embed(batch)
        shares_BT = batch.is_image_BT / batch.is_image_BT.sum(1, keepdim=True).clamp(min=1)
        mean_BD = (tokens_BTD * shares_BT.unsqueeze(-1)).sum(1)
        logits_BV = model.language.head(mean_BD).float()
        target_BV = self._target(batch, size=logits_BV.shape[1])
        return -(functional.log_softmax(logits_BV, dim=-1) * target_BV).sum(1).mean()

    def _target(self, batch: Batch, *, size: int) -> Tensor:
        weights_V = self._weights_V.to(batch.ids_BT.device)
        present_BV = torch.zeros(len(batch.ids_BT), len(weights_V), device=weights_V.device)
        present_BV.scatter_(1, batch.ids_BT, batch.supervised_BT.float(), reduce="add")
        target_BV = (present_BV > 0) * weights_V
        return (target_BV / target_BV.sum(1, keepdim=True).clamp(min=1e-6))[:, :size]
