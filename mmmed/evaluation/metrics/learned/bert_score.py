"""BERTScore: words of answer and reference matched by what an encoder makes of them in their context.

torchmetrics has it too, and in version 1.9 pairs texts wrongly: it sorts both sides by length, each on its own.

Legend of tensor names: T tokens of one text, D width of the encoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from mmmed.errors import ConfigError
from mmmed.models.weights import language_folder


class BertScore:
    """F1 of greedily matched tokens.

    Args:
        weights: Reference of an encoder of transformers with its tokenizer.
        layer: Which hidden layer is compared, counted from 1; the last unless given.
        baseline: What unrelated sentences score with this encoder and layer; scores are stretched so that it becomes 0.
        batch_size: Texts at once.

    Raises:
        WeightsError: The reference cannot be resolved.
        ConfigError: The encoder has no such layer.

    Source: Zhang et al. 2020, ICLR, sections 3 and 3.1 (arXiv 1904.09675), without weights by frequency.
    """

    def __init__(self, weights: str, *, layer: int | None = None, baseline: float = 0.0, batch_size: int = 32) -> None:
        folder = str(language_folder(weights))
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.encoder = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self.encoder.to("cuda" if torch.cuda.is_available() else "cpu")
        layers = int(self.encoder.config.num_hidden_layers)
        if layer is not None and not 1 <= layer <= layers:
            raise ConfigError(f"BERTScore: layer {layer} of {weights}, which has layers 1 to {layers}")
        self.layer = layer or layers
        self.baseline = baseline
        self.batch_size = batch_size

    def scores(self, references: Sequence[str], answers: Sequence[str]) -> list[float]:
        """The F1 of each pair, stretched by the baseline; where a text has no words, 0."""
        words = self._words(list(dict.fromkeys([*references, *answers])))
        return [
            self._stretched(words[answer], words[reference])
            for reference, answer in zip(references, answers, strict=True)
        ]

    def _stretched(self, said_TD: Tensor, wanted_TD: Tensor) -> float:
        if not len(said_TD) or not len(wanted_TD):
            return 0.0
        return (matched(said_TD, wanted_TD) - self.baseline) / (1.0 - self.baseline)

    @torch.inference_mode()
    def _words(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What the layer makes of each text's own tokens (T, D), of the length of one."""
        found: dict[str, Tensor] = {}
        for start in range(0, len(texts), self.batch_size):
            batch = list(texts[start : start + self.batch_size])
            read = self.tokenizer(
                batch, padding=True, truncation=True, return_special_tokens_mask=True, return_tensors="pt"
            )
            own_BT = ~read.pop("special_tokens_mask").bool()
            hidden = self.encoder(**read.to(self.encoder.device), output_hidden_states=True).hidden_states
            layer_BTD = normalize(hidden[self.layer].float().cpu(), dim=-1)
            found.update((text, layer_BTD[row][own_BT[row]]) for row, text in enumerate(batch))
        return found


def matched(said_TD: Tensor, wanted_TD: Tensor) -> float:
    """The harmonic mean of how well the words of each side find a like one on the other."""
    cosines_TT = said_TD @ wanted_TD.T
    precision, recall = cosines_TT.amax(1).mean(), cosines_TT.amax(0).mean()
    return float(2 * precision * recall / (precision + recall))
