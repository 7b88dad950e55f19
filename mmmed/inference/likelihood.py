"""How likely each token of given answers is to a model, all at once as in training.

Shape letters: S supervised tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mmmed.data.collate import pad
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

FloatArray = NDArray[np.float64]


@torch.inference_mode()
def token_likelihoods(
    model: VisionLanguageModel,
    processor: Processor,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    advance: Callable[[int], object] = lambda count: None,
) -> list[FloatArray]:
    """Log-likelihood of each token that training on an example would learn, in order.

    Args:
        model: In evaluation mode.
        processor: Of the model.
        examples: Conversations with their answers, or documents.
        batch_size: Examples read at once.
        advance: Told how many examples are done since the last call.

    Raises:
        RecordError: An example has no answer, or does not fit into the processor's `max_length`.
    """
    device = next(model.parameters()).device
    found: list[FloatArray] = []
    for start in range(0, len(examples), batch_size):
        some = examples[start : start + batch_size]
        batch = pad([processor.training(one) for one in some], image_id=processor.image_id).to(device)
        ids_S, places_S = batch.learned()
        hidden_SD = model.read(batch).flatten(0, 1)[places_S]
        logits = model.language.head(hidden_SD).double()
        values_S = logits.gather(1, ids_S[:, None])[:, 0] - logits.logsumexp(-1)
        counts = batch.supervised_BT[:, 1:].sum(1).tolist()
        found += [one.cpu().numpy() for one in torch.split(values_S, counts)]
        advance(len(some))
    return found
