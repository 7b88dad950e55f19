"""How a language model learns without moving its weights: low-rank and scaling adapters, 4-bit weights, soft prompts.

An adapter is named in the configuration of the language model: ``adapter: {kind: lora, r: 16}``. Beyond `kind`, the
settings are those of peft's configuration of that kind, or of `SoftPrompt`.

    lora     low-rank updates of the linear layers (Hu et al. 2021, arXiv 2106.09685)
    dora     the same, with direction and magnitude apart (Liu et al. 2024, arXiv 2402.09353)
    qlora    low-rank updates of linear layers that are kept in 4 bits (Dettmers et al. 2023, arXiv 2305.14314),
             whose scales stay in float32: quantising them as well would save 0.37 bits a weight
    ia3      learned scales of keys, values and inner activations (Liu et al. 2022, arXiv 2205.05638)
    prompt   learned tokens in front of the input (Lester et al. 2021, arXiv 2104.08691), which Med-PaLM tunes on
             instructions (Singhal et al. 2023, section 3.3)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from mmmed.errors import ConfigError, did_you_mean
from mmmed.models.four_bits import in_four_bits, summed
from mmmed.models.prepacked import drop_prepacked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Shape letters: B batch, T tokens, D width, P tokens of the soft prompt.

KINDS = ("lora", "dora", "qlora", "ia3", "prompt")

_MARKS = ("lora_", "ia3_", "soft_prompt.")
# Settings of peft that the kind decides, or that would let more than the adapters learn.
_NOT_OURS = {"use_dora", "peft_type", "task_type", "bias", "lora_bias", "modules_to_save", "trainable_token_indices"}


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter, and not to the model it adapts."""
    return any(mark in name for mark in _MARKS)


def kind_of(adapter: Mapping[str, Any] | None) -> str | None:
    """The kind of an adapter's settings, or None without an adapter.

    Raises:
        ConfigError: The kind is missing or unknown, or needs a package that is not installed.
    """
    if adapter is None:
        return None
    kind = adapter.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"adapter: unknown kind {kind!r}{did_you_mean(str(kind), KINDS)}")
    if kind == "qlora" and find_spec("bitsandbytes") is None:
        raise ConfigError("adapter: kind qlora keeps weights in 4 bits with bitsandbytes; pip install 'mmmed[qlora]'")
    return str(kind)


class Extension(NamedTuple):
    """A sequence with the soft prompt in front: embeddings (B, T, D), attention (B, ·), positions (B, T) or None."""

    embeddings_BTD: Tensor
    attention_BT: Tensor
    positions_BT: Tensor | None


class SoftPrompt(nn.Module):
    """Learned tokens that stand in front of every sequence; all else of the model may stay as it is.

    Args:
        start_PD: Embeddings to begin from.

    Source: Lester et al., The Power of Scale for Parameter-Efficient Prompt Tuning (2021), section 2.
    """

    def __init__(self, start_PD: Tensor) -> None:
        super().__init__()
        self.prompt_PD = nn.Parameter(start_PD.detach().clone())

    def __len__(self) -> int:
        return len(self.prompt_PD)

    def before(
        self, embeddings_BTD: Tensor, attention_BT: Tensor, *, positions_BT: Tensor | None = None, begins: bool = True
    ) -> Extension:
        """Put the prompt in front of a sequence, or count it in where a cache holds it already.

        Args:
            embeddings_BTD: The sequence.
            attention_BT: Of the cache and the sequence, without the prompt.
            positions_BT: Of the sequence, counted without the prompt.
            begins: Whether the sequence is the first that the cache is given.
        """
        rows = len(embeddings_BTD)
        attention_BT = torch.cat([attention_BT.new_ones(rows, len(self)), attention_BT], dim=1)
        if positions_BT is not None:
            positions_BT = positions_BT + len(self)
        if begins:
            prompt_BPD = self.prompt_PD.to(embeddings_BTD.dtype).expand(rows, -1, -1)
            embeddings_BTD = torch.cat([prompt_BPD, embeddings_BTD], dim=1)
            if positions_BT is not None:
                front_BP = torch.arange(len(self), device=positions_BT.device).expand(rows, -1)
                positions_BT = torch.cat([front_BP, positions_BT], dim=1)
        return Extension(embeddings_BTD, attention_BT, positions_BT)


def soft_prompt(
    settings: Mapping[str, Any], *, vocabulary: nn.Module, tokenizer: PreTrainedTokenizerBase
) -> SoftPrompt:
    """Make the soft prompt that settings describe: `tokens`, its length, and `text`, the words it begins as.

    Without a text it begins as words drawn from the vocabulary. Med-PaLM's is 100 tokens long.

    Raises:
        ConfigError: An unknown setting, or a length that is no positive number.
    """
    known = ("tokens", "text")
    if unknown := [name for name in settings if name not in known]:
        raise ConfigError(f"adapter prompt: unknown setting {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    tokens, text = settings.get("tokens", 20), settings.get("text")
    if not isinstance(tokens, int) or tokens < 1:
        raise ConfigError(f"adapter prompt: tokens is {tokens!r}; expected how many tokens are learned, such as 20")
    size = int(vocabulary.num_embeddings)  # type: ignore[arg-type]
    if text is None:
        ids = torch.randint(size, (tokens,))
    else:
        said = [token for token in tokenizer(text, add_special_tokens=False)["input_ids"] if token < size]
        if not said:
            raise ConfigError(f"adapter prompt: text {text!r} has no token to begin from; write some words")
        ids = torch.tensor(said).repeat(-(-tokens // len(said)))[:tokens]
    with torch.no_grad():
        return SoftPrompt(vocabulary(ids))


def add_layers(decoder: nn.Module, adapter: Mapping[str, Any]) -> None:
    """Wrap layers of a decoder in adapters of peft, in place.

    Raises:
        ConfigError: An unknown setting, or layers that the decoder has not.
    """
    from peft import inject_adapter_in_model

    kind = kind_of(adapter)
    try:
        inject_adapter_in_model(_peft_config(str(kind), adapter, decoder), decoder)
    except ValueError as error:
        raise ConfigError(f"adapter {kind}: {' '.join(str(error).split())}; name target_modules it has") from error


def _peft_config(kind: str, adapter: Mapping[str, Any], decoder: nn.Module) -> Any:
    from peft import IA3Config, LoraConfig
    from transformers.pytorch_utils import Conv1D

    made = IA3Config if kind == "ia3" else LoraConfig
    given = {name: value for name, value in adapter.items() if name != "kind"}
    known = {each.name for each in fields(made) if each.init} - _NOT_OURS
    if unknown := [name for name in given if name not in known]:
        raise ConfigError(f"adapter {kind}: unknown setting {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    defaults: dict[str, Any] = {"fan_in_fan_out": any(isinstance(layer, Conv1D) for layer in decoder.modules())}
    if kind != "ia3":
        defaults |= {"target_modules": "all-linear", "use_dora": kind == "dora"}
    return made(**(defaults | given))


def adapted_layers(module: nn.Module) -> dict[str, Any]:
    """The layers that adapters wrap, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)}


def fold(decoder: nn.Module) -> dict[str, Any]:
    """Put the sum of weights and adapters in the place of the adapted layers, and give those back for `unfold`.

    Layers in 4 bits become layers in float32, since their sums would not fit in 4 bits.
    """
    layers = adapted_layers(decoder)
    drop_prepacked(decoder)
    for name, layer in layers.items():
        base = layer.get_base_layer()
        if in_four_bits(base):
            decoder.set_submodule(name, summed(layer))
        else:
            layer.merge(safe_merge=True)
            decoder.set_submodule(name, base)
    return layers


def unfold(decoder: nn.Module, layers: Mapping[str, Any]) -> None:
    """Take the adapters out of the weights again, and put the adapted layers back in their places."""
    drop_prepacked(decoder)
    for name, layer in layers.items():
        if not in_four_bits(layer.get_base_layer()):
            with warnings.catch_warnings():
                # Dividing by a learned scale is inexact where the scale is almost zero.
                warnings.filterwarnings("ignore", "Unmerge result can be inaccurate")
                layer.unmerge()
        decoder.set_submodule(name, layer)


@contextmanager
def switched_off(module: nn.Module) -> Iterator[None]:
    """The module as it is without its adapted layers; which parameters learn is the same afterwards."""
    layers = adapted_layers(module).values()
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        module.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)


def measure_magnitudes(module: nn.Module) -> None:
    """Begin the magnitudes of fresh DoRA adapters from the weights that the layers have now."""
    for layer in adapted_layers(module).values():
        for name, magnitude in getattr(layer, "lora_magnitude_vector", {}).items():
            magnitude.update_layer(
                base_layer=layer.get_base_layer(),
                lora_A=layer.lora_A[name].weight,
                lora_B=layer.lora_B[name].weight,
                scaling=layer.scaling[name],
            )
