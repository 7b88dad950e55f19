"""CheXbert: a BERT that reads a chest report and says which of the fourteen observations it states.

Legend of array names: B reports at once, D width of the encoder, N reports, F observations.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, BertConfig, BertModel

from mmmed.errors import CheckpointError
from mmmed.evaluation.metrics.tally import FloatArray
from mmmed.models.weights import language_folder, read_state, resolve
from mmmed.processing.findings.labeller import NO_FINDING, OBSERVATIONS

HEADS = (*(name for name in OBSERVATIONS if name != NO_FINDING), NO_FINDING)
"""Its heads in their order: blank, stated, denied or left open; of "No Finding" only blank or stated."""

STATED, UNSURE = 1, 3


class CheXbert(nn.Module):
    """The labeller with its published weights.

    Args:
        weights: Reference of the file, or of a folder that holds it as `file`.
        tokenizer: Reference of a folder with the tokenizer it was trained with, that of BERT base, uncased.
        file: Name of the file in the folder.
        unsure: Whether what a report leaves open counts as stated, as in published figures of F1CheXbert.
        config: Sizes of the encoder where they are not those of BERT base.
        batch_size: Reports at once.

    Raises:
        WeightsError: A reference cannot be resolved.
        CheckpointError: The file is of another model.

    Source: Smit et al. 2020, EMNLP, section 3 (arXiv 2004.09167).
    """

    def __init__(
        self,
        weights: str,
        tokenizer: str,
        *,
        file: str = "chexbert.pth",
        unsure: bool = True,
        config: dict[str, Any] | None = None,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(str(language_folder(tokenizer)), local_files_only=True)
        self.bert = BertModel(BertConfig(**(config or {})))
        width = self.bert.config.hidden_size
        self.linear_heads = nn.ModuleList(nn.Linear(width, 2 if name == NO_FINDING else 4) for name in HEADS)
        self.counts = (STATED, UNSURE) if unsure else (STATED,)
        self.batch_size = batch_size
        path = resolve(weights)
        self._fill(path / file if path.is_dir() else path)
        self.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    @torch.inference_mode()
    def stated(self, texts: Sequence[str]) -> FloatArray:
        """Which observations each text states, (N, F) of 0 and 1, in the order of `OBSERVATIONS`; an empty one none."""
        found = np.zeros((len(texts), len(HEADS)))
        for start in range(0, len(texts), self.batch_size):
            first_BD = self._first(texts[start : start + self.batch_size])
            said = torch.stack([head(first_BD).argmax(-1) for head in self.linear_heads], dim=1).cpu().numpy()
            found[start : start + len(said)] = np.isin(said, self.counts)
        found *= np.array([[bool(text.strip())] for text in texts], dtype=bool).reshape(-1, 1)
        return found[:, [HEADS.index(name) for name in OBSERVATIONS]]

    @torch.inference_mode()
    def places(self, texts: Sequence[str]) -> FloatArray:
        """What the encoder makes of the whole of each text, (N, D): the hidden state of its first token."""
        cuts = range(0, len(texts), self.batch_size)
        places = [self._first(texts[start : start + self.batch_size]).cpu().double().numpy() for start in cuts]
        return np.concatenate(places) if places else np.zeros((0, self.bert.config.hidden_size))

    def _first(self, texts: Sequence[str]) -> Tensor:
        longest = self.bert.config.max_position_embeddings
        read = self.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        read = read.to(self.linear_heads[0].weight.device)
        hidden_BTD = self.bert(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).last_hidden_state
        first_BD: Tensor = hidden_BTD[:, 0]
        return first_BD

    def _fill(self, path: Path) -> None:
        # Files written by older versions of transformers also hold the numbers of the places, which are no weights.
        state = {name: value for name, value in read_state(path).items() if not name.endswith("position_ids")}
        own = self.state_dict()
        if wrong := sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]:
            raise CheckpointError(f"{path} is no CheXbert: {len(wrong)} tensors do not fit, such as {wrong[0]}")
        self.load_state_dict(state)
