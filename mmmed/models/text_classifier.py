"""A text encoder that chooses among options: the baseline of the BERT generation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.weights import language_folder

# Shape letters: B batch, T tokens, D width, O options.


class TextClassifier(nn.Module):
    """An encoder of transformers, such as BioBERT or PubMedBERT, and a linear layer over every option of a data set.

    Args:
        options: All options of all questions; those of one question are told apart by masking the others.
        weights: Reference of pretrained weights with their tokenizer, or None for random ones.
        config: Model configuration (``model_type`` and its fields), needed with random weights.
        tokenizer: Folder of the tokenizer, needed with random weights.
        max_length: Longest text in tokens; of a longer one the end is read, where the question stands.

    Raises:
        WeightsError: The reference cannot be resolved.
        ConfigError: Neither weights nor a configuration with a tokenizer is given.

    Source: Devlin et al., BERT (2019), section 4.1: the first token's last hidden state is classified.
    """

    def __init__(
        self,
        options: Sequence[str],
        *,
        weights: str | None,
        config: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        max_length: int = 512,
    ) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        if weights is not None:
            folder = str(language_folder(weights))
            self.encoder = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        elif config is not None and tokenizer is not None:
            settings = dict(config)
            folder = tokenizer
            self.encoder = AutoModel.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))  # type: ignore[no-untyped-call]
        else:
            raise ConfigError("a text classifier needs `weights`, or `config` and `tokenizer` for random weights")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, truncation_side="left")
        self.options = tuple(options)
        self.max_length = max_length
        self.head = nn.Linear(int(self.encoder.config.hidden_size), len(self.options))

    def forward(self, texts: Sequence[str], allowed_BO: Tensor) -> Tensor:
        """Log-probability of each option (B, O), minus infinity where `allowed_BO` is false."""
        read = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        ).to(allowed_BO.device)
        hidden_BTD = self.encoder(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).last_hidden_state
        logits_BO: Tensor = self.head(hidden_BTD[:, 0])
        return logits_BO.float().masked_fill(~allowed_BO, float("-inf")).log_softmax(-1)
