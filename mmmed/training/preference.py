"""Learning which of two answers is the better one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmmed.errors import ConfigError, DataError
from mmmed.models.adaptation import is_adapter
from mmmed.models.folder import load
from mmmed.models.language import CausalLanguageModel
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor, with_rejected
from mmmed.records import Example

# Shape letters: B batch, T tokens, S supervised tokens, V vocabulary.


class PreferenceLoss:
    """Direct preference optimisation: the better answer has to gain more likelihood on the reference than the worse.

    Args:
        beta: How dear it is to move away from the reference; the smaller, the further the model may go.
        reference: Folder of the model that training starts from, which is kept frozen beside it. None takes the
            model itself without its adapter, which needs no second copy, but all that learns has to be an adapter
            that began in this stage.
        anchor: How much it counts that the better answer itself is likely, per token. Preferring a long answer to a
            short one can be learned from its later tokens alone, and then it is never begun; 0 lets that be.

    Raises:
        ConfigError: beta is no positive number, or anchor is below 0; or there is no reference, and more than an
            adapter learns.
        DataError: An example has no rejected answer.

    Source: Rafailov et al., Direct Preference Optimization (2023), equation 7; with an anchor, Pang et al., Iterative
    Reasoning Preference Optimization (2024), equation 1.
    """

    def __init__(self, beta: float = 0.1, reference: str | None = None, anchor: float = 0.0) -> None:
        if anchor < 0:
            raise ConfigError(f"preference loss: anchor is {anchor}; expected 0 or more")
        if beta <= 0:
            raise ConfigError(f"preference loss: beta is {beta}; expected a positive number, such as 0.1")
        self.beta = beta
        self.reference = reference
        self.anchor = anchor
        self._frozen: VisionLanguageModel | None = None
        self._measures: dict[str, Tensor] = {}

    def prepare(self, processor: Processor, examples: Iterable[Example]) -> None:
        """See that every example has two answers, before the first step."""
        for example in examples:
            if with_rejected(example) is None:
                raise DataError(
                    f"{example.source}:{example.id}: no rejected answer; preferences are learned from two answers"
                )

    def loss(self, model: VisionLanguageModel, batch: Batch) -> Tensor:
        """Mean over the pairs of the negative log-probability that the better answer is preferred, and the anchor."""
        batch.check_padded("the preference objective")
        rejected = batch.rejected
        if rejected is None:
            raise DataError("the batch has no rejected answers; preferences are learned from two answers")
        # First, since a pass leaves its load-balancing loss behind, and that of the model is to be learned from.
        with torch.no_grad(), self._reference(model) as reference:
            before_B = answer_likelihood(reference, batch) - answer_likelihood(reference, rejected)
        better_B = answer_likelihood(model, batch)
        margin_B = self.beta * (better_B - answer_likelihood(model, rejected) - before_B)
        found = margin_B.detach()
        self._measures = {"preferred": (found > 0).float().mean(), "margin": found.mean()}
        loss = -functional.logsigmoid(margin_B).mean()
        if self.anchor:
            loss = loss - self.anchor * (better_B / batch.supervised_BT[:, 1:].sum(1)).mean()
        return loss

    def measures(self) -> dict[str, Tensor]:
        """Of the last batch: the share of pairs told apart rightly, and the mean margin between their rewards."""
        return self._measures

    @contextmanager
    def _reference(self, model: VisionLanguageModel) -> Iterator[VisionLanguageModel]:
        if self.reference is not None:
            device = next(model.parameters()).device
            if self._frozen is None:
                self._frozen = load(Path(self.reference)).model.requires_grad_(False)
            yield self._frozen.to(device)
            return
        learning = [name for name, one in model.named_parameters() if one.requires_grad]
        if moved := [name for name in learning if not is_adapter(name)]:
            raise ConfigError(
                f"preference loss: {moved[0]} learns, so that the model without its adapter is no reference; "
                "name the folder that training starts from in `reference`"
            )
        if not isinstance(model.language, CausalLanguageModel):
            raise ConfigError("preference loss: this language model has no adapter to leave out; name a `reference`")
        with _answering(model), model.language.without_adapter():
            yield model


def answer_likelihood(model: VisionLanguageModel, batch: Batch) -> Tensor:
    """Log-likelihood (B,) of the supervised tokens of each sequence, summed, in float32."""
    hidden_BTD = model.read(batch)
    predicts_BT = batch.supervised_BT[:, 1:]
    words_SV = model.language.head(hidden_BTD[:, :-1][predicts_BT]).float().log_softmax(-1)
    said_S = words_SV.gather(1, batch.ids_BT[:, 1:][predicts_BT][:, None])[:, 0]
    of_S = predicts_BT.nonzero()[:, 0]
    return said_S.new_zeros(len(predicts_BT)).index_add(0, of_S, said_S)


@contextmanager
def _answering(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, each module as it was afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
