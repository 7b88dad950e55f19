"""Text encoders: from a report to one vector. Letters in tensor names: B texts, T tokens, W width."""

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from mmmed.errors import CheckpointError, ConfigError
from mmmed.models.language_model import LanguageModel
from mmmed.models.weights import language_folder, resolve

Pool = Literal["mean", "first", "last"]


class TextEncoder(nn.Module, ABC):
    """What every text tower offers to the contrastive model it is part of."""

    tokenizer: PreTrainedTokenizerBase

    @property
    @abstractmethod
    def width(self) -> int:
        """W, the width of the vector of a text."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """Most tokens that it reads."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Class path and arguments that build the same architecture without its weights."""

    @abstractmethod
    def forward(self, ids_BT: Tensor, attention_BT: Tensor) -> Tensor:
        """One vector per text (B, W); `attention_BT` is 1 on tokens and 0 on padding, which is on the right."""


class TransformerText(TextEncoder):
    """An encoder of transformers that reads in both directions, such as BERT and its medical kin.

    Args:
        weights: A folder or hub repository of pretrained weights, or null for random initialisation.
        config: Model configuration (``model_type`` and its fields) for random initialisation; its vocabulary is
            the tokenizer's unless it says otherwise.
        tokenizer: Reference of the tokenizer, where it is not beside the weights.
        pool: The mean over the tokens, or the first one alone, as BERT's ``[CLS]``.

    Raises:
        ConfigError: Neither or both of weights and config are given, or no tokenizer.
        WeightsError: A reference cannot be resolved.
        CheckpointError: The weights lack a tensor of the architecture.
    """

    def __init__(
        self,
        weights: str | None,
        *,
        config: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        pool: Literal["mean", "first"] = "mean",
    ) -> None:
        super().__init__()
        if (weights is None) == (config is None):
            raise ConfigError("TransformerText: give weights or, for random initialisation, a config; not both")
        self.tokenizer = _tokenizer(tokenizer or weights)
        self.model = _pretrained(weights) if weights is not None else _new(config or {}, words=len(self.tokenizer))
        # Heads for other purposes would get no gradient.
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None
        self.pool = pool

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def longest(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def recipe(self) -> dict[str, Any]:
        config = {"model_type": self.model.config.model_type, **self.model.config.to_diff_dict()}
        return _recipe(self, weights=None, config=config, pool=self.pool)

    def forward(self, ids_BT: Tensor, attention_BT: Tensor) -> Tensor:
        """One vector per text (B, W)."""
        hidden_BTW: Tensor = self.model(input_ids=ids_BT, attention_mask=attention_BT).last_hidden_state
        return pooled(hidden_BTW, attention_BT, pool=self.pool)


class LanguageText(TextEncoder):
    """A language model as text tower: its last hidden states, averaged, or that of the last token.

    Args:
        language: The language model, with LoRA adapters or without.
        pool: The last token has read the whole text; the mean is steadier where the model is frozen.
    """

    def __init__(self, language: LanguageModel, pool: Literal["mean", "last"] = "mean") -> None:
        super().__init__()
        self.language = language
        self.tokenizer = language.tokenizer
        self.pool = pool

    @property
    def width(self) -> int:
        return self.language.width

    @property
    def longest(self) -> int:
        return int(self.tokenizer.model_max_length)

    def recipe(self) -> dict[str, Any]:
        return _recipe(self, language=self.language.recipe(), pool=self.pool)

    def forward(self, ids_BT: Tensor, attention_BT: Tensor) -> Tensor:
        """One vector per text (B, W)."""
        return pooled(self.language(self.language.embed(ids_BT), attention_BT), attention_BT, pool=self.pool)


def pooled(hidden_BTW: Tensor, attention_BT: Tensor, *, pool: Pool) -> Tensor:
    """One vector of each text's tokens (B, W); padding, on the right, has no part in it."""
    if pool == "first":
        return hidden_BTW[:, 0]
    if pool == "last":
        return hidden_BTW[torch.arange(len(hidden_BTW), device=hidden_BTW.device), attention_BT.sum(1) - 1]
    shares_BT1 = (attention_BT / attention_BT.sum(1, keepdim=True)).unsqueeze(-1).to(hidden_BTW.dtype)
    return (hidden_BTW * shares_BT1).sum(1)


def _recipe(encoder: TextEncoder, **arguments: Any) -> dict[str, Any]:
    kind = type(encoder)
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": arguments}


def _new(config: dict[str, Any], *, words: int) -> Any:
    settings = {"vocab_size": words} | config
    model_type = settings.pop("model_type", None)
    if model_type is None:
        raise ConfigError("TransformerText: config has no model_type; name one, such as bert")
    return AutoModel.from_config(AutoConfig.for_model(model_type, **settings))  # type: ignore[no-untyped-call]


def _pretrained(weights: str) -> Any:
    model, info = AutoModel.from_pretrained(
        language_folder(weights), dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing or info["mismatched_keys"]:
        odd = missing or sorted(map(str, info["mismatched_keys"]))
        raise CheckpointError(f"weights {weights!r} lack {len(odd)} tensors of the text encoder, such as {odd[0]!r}")
    return model


def _tokenizer(reference: str | None) -> PreTrainedTokenizerBase:
    if reference is None:
        raise ConfigError("a text encoder with random weights needs `tokenizer`: a reference or a folder")
    path = resolve(reference)
    folder = path if (path / "tokenizer_config.json").is_file() else language_folder(reference)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
