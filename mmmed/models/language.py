"""Language models: the seam, and every causal model of transformers behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.weights import language_folder, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.cache_utils import Cache
    from transformers.generation.streamers import BaseStreamer

# Shape letters: B batch, T tokens, D width, V vocabulary, S supervised tokens.


class LanguageModel(nn.Module, ABC):
    """A decoder that reads embeddings, so that images and words enter by the same door."""

    tokenizer: PreTrainedTokenizerBase

    @property
    @abstractmethod
    def width(self) -> int:
        """D, the width of a token embedding."""

    @property
    @abstractmethod
    def output_matrix(self) -> Tensor:
        """The vector of each word that hidden states are compared with (V, D)."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Class path and arguments that build the same architecture without its weights."""

    @abstractmethod
    def embed(self, ids_BT: Tensor) -> Tensor:
        """Token embeddings (B, T, D)."""

    @abstractmethod
    def forward(
        self,
        embeddings_BTD: Tensor,
        attention_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Last hidden states (B, T, D); `attention_BT` is 1 on tokens (those in the cache first) and 0 on padding."""

    @abstractmethod
    def head(self, hidden_SD: Tensor) -> Tensor:
        """Logits over the vocabulary (S, V) of the hidden states that are asked for, and of no others."""

    @abstractmethod
    def generate(
        self, embeddings_BTD: Tensor, attention_BT: Tensor, *, max_new_tokens: int, streamer: BaseStreamer | None = None
    ) -> Tensor:
        """Greedy continuation (B, up to max_new_tokens) of left-padded embeddings."""


class CausalLanguageModel(LanguageModel):
    """Any `AutoModelForCausalLM`, with its tokenizer, optionally with LoRA adapters.

    Args:
        weights: Reference of pretrained weights (see `mmmed weights list`), or None for random ones.
        tokenizer: Reference of the tokenizer, where it is not beside the weights.
        config: Model configuration (``model_type`` and its fields), needed with random weights.
        lora: Arguments of `peft.LoraConfig`, such as ``{"r": 16}``; None trains or freezes the model itself.
        attention: Attention implementation of transformers.

    Raises:
        WeightsError: The reference cannot be resolved.
        ConfigError: Neither weights nor a configuration is given.
    """

    def __init__(
        self,
        weights: str | None,
        *,
        tokenizer: str | None = None,
        config: dict[str, Any] | None = None,
        lora: dict[str, Any] | None = None,
        attention: str = "sdpa",
    ) -> None:
        super().__init__()
        self.model = _decoder(weights, config, attention=attention)
        self.tokenizer = _tokenizer(tokenizer or weights)
        self._lora = lora
        self._attention = attention
        if lora is not None:
            self._add_lora(lora)

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def output_matrix(self) -> Tensor:
        matrix: Tensor = self.model.get_output_embeddings().weight
        return matrix

    def recipe(self) -> dict[str, Any]:
        config = {"model_type": self.model.config.model_type, **self.model.config.to_diff_dict()}
        arguments = {"weights": None, "config": config, "lora": self._lora, "attention": self._attention}
        return {"class_path": "mmmed.models.language.CausalLanguageModel", "init_args": arguments}

    def embed(self, ids_BT: Tensor) -> Tensor:
        vocabulary = self.model.get_input_embeddings()
        embeddings: Tensor = vocabulary(ids_BT.where(ids_BT < vocabulary.num_embeddings, 0))
        return embeddings

    def forward(
        self,
        embeddings_BTD: Tensor,
        attention_BT: Tensor,
        *,
        positions_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        hidden: Tensor = self.model.base_model(
            inputs_embeds=embeddings_BTD,
            attention_mask=attention_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden

    def head(self, hidden_SD: Tensor) -> Tensor:
        logits: Tensor = self.model.get_output_embeddings()(hidden_SD)
        return logits

    @torch.inference_mode()
    def generate(
        self, embeddings_BTD: Tensor, attention_BT: Tensor, *, max_new_tokens: int, streamer: BaseStreamer | None = None
    ) -> Tensor:
        generated: Tensor = self.model.generate(
            inputs_embeds=embeddings_BTD,
            attention_mask=attention_BT,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id
            if self.tokenizer.pad_token_id is not None
            else self.tokenizer.eos_token_id,
            streamer=streamer,
        )
        return generated

    def _add_lora(self, settings: dict[str, Any]) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        inject_adapter_in_model(LoraConfig(**{"target_modules": "all-linear", **settings}), self.model)


def _decoder(weights: str | None, config: dict[str, Any] | None, *, attention: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    if weights is not None:
        return AutoModelForCausalLM.from_pretrained(
            language_folder(weights), dtype=torch.float32, attn_implementation=attention, local_files_only=True
        )
    if config is None:
        raise ConfigError("a language model needs `weights`, or `config` with a model_type for random weights")
    settings = dict(config)
    return AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        AutoConfig.for_model(settings.pop("model_type"), **settings), attn_implementation=attention
    )


def _tokenizer(reference: str | None) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if reference is None:
        raise ConfigError("a language model with random weights needs `tokenizer`: a reference or a folder")
    path = resolve(reference)
    folder = path if (path / "tokenizer_config.json").is_file() else language_folder(reference)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer
