"""Vectors of texts, to find like ones by: the mean of an encoder's last states.

Letters in array names: N texts, E width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from mmmed.inference.retrieval import Encode
from mmmed.models.text import TextEncoder, TransformerText

BATCH = 32


def text_vectors(reference: str, *, device: str | None = None) -> Encode:
    """A function that gives texts their vectors (N, E).

    Args:
        reference: Of an encoder of transformers, such as ``hf:sentence-transformers/all-MiniLM-L6-v2@main``.
        device: Where to compute; None takes a GPU where there is one.

    Raises:
        WeightsError: The reference cannot be resolved.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    encoder = TransformerText(reference).to(place).eval()
    return lambda texts: _vectors(encoder, texts, place)


@torch.inference_mode()
def _vectors(encoder: TextEncoder, texts: Sequence[str], device: torch.device) -> NDArray[np.float32]:
    found = []
    longest = min(encoder.longest, encoder.tokenizer.model_max_length)
    for start in range(0, len(texts), BATCH):
        ids = [
            torch.tensor(encoder.tokenizer(text, truncation=True, max_length=longest)["input_ids"])
            for text in texts[start : start + BATCH]
        ]
        ids_BT = pad_sequence(ids, batch_first=True).to(device)
        attention_BT = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True).to(device)
        found.append(encoder(ids_BT, attention_BT).float().cpu().numpy())
    vectors_NE: NDArray[np.float32] = np.concatenate(found)
    return vectors_NE
