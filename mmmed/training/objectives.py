"""What a stage minimises."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mmmed.errors import ConfigError, DataError
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, Turn
from mmmed.training.cross_entropy import cross_entropy

# Shape letters: B batch, T tokens, D language width, S supervised tokens, V vocabulary, W words, C candidates,
# M image tokens of the batch.


class Objective(Protocol):
    """A loss over a batch, for the kind of model that it names."""

    def prepare(self, processor: Any, examples: Iterable[Example]) -> None:
        """Learn what the loss must know of the training data; the same data gives the same state."""
        ...

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """The mean loss, a scalar."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """An objective whose mean is over more or fewer things in each batch, so that batches differ in what they count."""

    def weight(self, batch: Batch) -> int:
        """How many things the mean over this batch is over."""
        ...


class AnswerLoss:
    """Cross-entropy of the answers' tokens, given all that stands before them; the loss of language models.

    Batches may be packed: what is learned is the same. Logits exist for the supervised tokens alone, and never for
    many of them at once.
    """

    def prepare(self, processor: Processor, examples: Iterable[Example]) -> None:
        """Nothing to learn."""

    def loss(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        """Mean over the supervised tokens."""
        ids_S, places_S = batch.learned()
        hidden_SD = model.read(batch).flatten(0, 1)[places_S]
        return cross_entropy(model.language.head, hidden_SD, ids_S)

    def weight(self, batch: Batch) -> int:
        """The supervised tokens that the mean is over."""
        return len(batch.learned().ids_S)


class VocabularyLoss:
    """Teaches a projector to speak in words: some image token must say each word of the answer, and no other.

    An image token says a word with the probability that the language model's output matrix gives it; the image
    says it if at least one of its tokens does (a noisy-or). The decoder itself never runs, so that a step costs
    a hundredth of one through it, and the image tokens it leaves behind lie where the words lie.

    Args:
        negatives: Words that no answer has, drawn anew each step, to normalise against.
        most: Examples whose words are looked for; of more, as many are taken at even distances.

    Raises:
        ConfigError: The model reads no images.

    Source: the noisy-or over image regions is of Fang et al., From Captions to Visual Concepts and Back (2015),
    section 3.1; the frozen vocabulary as its classifier follows Huang et al., Classification Done Right for
    Vision-Language Pre-Training (2024).
    """

    def __init__(self, negatives: int = 2000, most: int = 5000) -> None:
        self.negatives = negatives
        self.most = most
        self._words_W = torch.zeros(0, dtype=torch.long)

    def prepare(self, processor: Processor, examples: Iterable[Example]) -> None:
        """Find the subwords that some answers have and others have not; marks without a letter are no words.

        Raises:
            DataError: Every answer has the same words, so that there is nothing to learn.
        """
        tokenizer = processor.prompt.tokenizer
        # The same is answered of many films, whatever was asked.
        known: dict[tuple[Turn, ...], set[int]] = {}
        documents = []
        for example in _evenly(examples, self.most):
            answers = tuple(turn for turn in example.turns if turn.speaker == "assistant")
            if answers not in known:
                known[answers] = set(processor.supervised_ids(example))
            documents.append(known[answers])
        counts = Counter(token for document in documents for token in document)
        lettered = {token for token in counts if any(map(str.isalpha, tokenizer.decode([token])))}
        telling = sorted(lettered - set(tokenizer.all_special_ids) - {t for t in counts if counts[t] == len(documents)})
        if not telling:
            raise DataError("all answers have the same words; the vocabulary objective needs answers that differ")
        self._words_W = torch.tensor(telling)

    def loss(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        """Mean over the examples of the summed binary cross-entropy of the words."""
        batch.check_padded("the vocabulary objective")
        if model.vision is None:
            raise ConfigError("the vocabulary objective reads images; it cannot train a text-only model")
        words_W = self._words_W.to(batch.ids_BT.device)
        matrix_VD = model.language.output_matrix
        negatives_N = torch.randint(len(matrix_VD), (self.negatives,), device=words_W.device)
        negatives_N = negatives_N[~torch.isin(negatives_N, words_W)]
        tokens_MD = model.embed(batch)[batch.is_image_BT]
        example_M = batch.is_image_BT.nonzero()[:, 0]
        shares_MC = (tokens_MD @ matrix_VD[torch.cat([words_W, negatives_N])].T).float().softmax(-1)
        silent_MW = torch.log1p(-shares_MC[:, : len(words_W)].clamp(max=_ALMOST_ONE))
        unsaid_BW = silent_MW.new_zeros(len(batch.ids_BT), len(words_W)).index_add(0, example_M, silent_MW)
        unsaid_BW = unsaid_BW.clamp(max=-_ALMOST_NONE)
        present_BW = self._present(batch, words_W)
        said_BW = torch.log(-torch.expm1(unsaid_BW))
        return -(present_BW * said_BW + ~present_BW * unsaid_BW).sum(1).mean()

    def _present(self, batch: Batch, words_W: Tensor) -> Tensor:
        answers_BT = batch.ids_BT.where(batch.supervised_BT, -1)
        return (answers_BT.unsqueeze(-1) == words_W).any(1)


def _evenly(examples: Iterable[Example], most: int) -> Iterable[Example]:
    """As many examples at even distances, which is all of them where they are few."""
    if not isinstance(examples, Sequence) or len(examples) <= most:
        return examples
    return (examples[place * len(examples) // most] for place in range(most))


_ALMOST_ONE = 1 - 1e-4
_ALMOST_NONE = 1e-6
