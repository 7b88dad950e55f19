"""Causal models of transformers, as they come: the model, its tokenizer, and its head alone."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmmed.errors import ConfigError
from mmmed.models.tree_attention import use_tree_attention
from mmmed.models.weights import language_folder, resolve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Shape letters: B batch, T tokens, D width, V vocabulary.


class _HeadAlone:
    """A causal model in the place of whose decoder stands what the decoder has already given.

    What its class does after the decoder (softcaps, scales, biases, projections) so stays the library's own.
    """

    def __init__(self, model: Any, hidden_BTD: Tensor, *, exact: bool) -> None:
        self._model = model
        self._hidden_BTD = hidden_BTD
        self._exact = exact

    def __getattr__(self, name: str) -> Any:
        if name == self._model.base_model_prefix:
            return self._decoded
        attribute = getattr(self._model, name)
        is_words = self._exact and attribute is self._model.get_output_embeddings()
        return copy.deepcopy(attribute).float() if is_words and attribute.weight.dtype != torch.float32 else attribute

    def _decoded(self, *arguments: Any, **settings: Any) -> _Decoded:
        return _Decoded([self._hidden_BTD])


class _Decoded(tuple[Tensor]):
    """What a decoder gives: its last hidden states, and none of what else might be asked of it."""

    def __getattr__(self, name: str) -> Tensor | None:
        return self[0] if name == "last_hidden_state" else None


def logits_of(model: Any, hidden_BTD: Tensor, *, exact: bool = False) -> Tensor:
    """Logits (B, T, V) that a causal model gives of what its decoder has given (B, T, D); `exact` ones in float32."""
    hidden_BTD = hidden_BTD.float() if exact else hidden_BTD
    head = _HeadAlone(model, hidden_BTD, exact=exact)
    logits: Tensor = type(model).forward(head, inputs_embeds=hidden_BTD, use_cache=False).logits
    return logits


def decoder(weights: str | None, config: dict[str, Any] | None, *, attention: str | None) -> Any:
    """A causal model of transformers, with its weights or with random ones.

    Raises:
        ConfigError: Neither weights nor a configuration is given.
        WeightsError: The reference cannot be resolved.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    model: Any
    if weights is not None:
        model = AutoModelForCausalLM.from_pretrained(
            language_folder(weights), dtype=torch.float32, attn_implementation=attention, local_files_only=True
        )
    elif config is not None:
        settings = dict(config)
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(settings.pop("model_type"), **settings), attn_implementation=attention
        )
    else:
        raise ConfigError("a language model needs `weights`, or `config` with a model_type for random weights")
    if attention is None:
        use_tree_attention(model)
    return model


def tokenizer_of(reference: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of a reference: a folder of its own, or the one beside the weights.

    Raises:
        ConfigError: None is given.
        WeightsError: The reference cannot be resolved.
    """
    from transformers import AutoTokenizer

    if reference is None:
        raise ConfigError("a language model with random weights needs `tokenizer`: a reference or a folder")
    path = resolve(reference)
    folder = path if (path / "tokenizer_config.json").is_file() else language_folder(reference)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer
