"""Every causal language model of transformers, behind the seam."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmmed.errors import ConfigError
from mmmed.models.adaptation import (
    SoftPrompt,
    add_layers,
    fold,
    kind_of,
    soft_prompt,
    switched_off,
    unfold,
)
from mmmed.models.auxiliary import Auxiliary
from mmmed.models.decoder import decoder_layers
from mmmed.models.decoders import decoder, logits_of, tokenizer_of
from mmmed.models.four_bits import to_four_bits
from mmmed.models.language_model import LanguageModel
from mmmed.models.packing import one_after_another
from mmmed.models.tree_attention import (
    cache_arguments,
    check_read_as_tree,
    keep_from_compiling,
    tree_arguments,
)
from mmmed.models.windows import in_window

if TYPE_CHECKING:
    from transformers.cache_utils import Cache
    from transformers.generation.streamers import BaseStreamer

    from mmmed.models.packing import Layout
    from mmmed.models.tree_row import Before

# Shape letters: those of language_model.


class CausalLanguageModel(LanguageModel, Auxiliary):
    """Any `AutoModelForCausalLM`, with its tokenizer, optionally with an adapter.

    Args:
        weights: Reference of pretrained weights (see `mmmed weights list`), or None for random ones.
        tokenizer: Reference of the tokenizer, where it is not beside the weights.
        config: Model configuration (``model_type`` and its fields), needed with random weights.
        adapter: What learns in the model's stead, such as ``{"kind": "lora", "r": 16}``: `kind` is one of lora,
            dora, qlora, ia3 and prompt, and the rest its settings (see `mmmed.models.adaptation`). None trains or
            freezes the model itself.
        attention: Attention implementation of transformers; None takes the fastest that the model has.

    Raises:
        WeightsError: The reference cannot be resolved.
        ConfigError: Neither weights nor a configuration is given, or the adapter does not fit.
    """

    def __init__(
        self,
        weights: str | None,
        *,
        tokenizer: str | None = None,
        config: dict[str, Any] | None = None,
        adapter: dict[str, Any] | None = None,
        attention: str | None = None,
    ) -> None:
        super().__init__()
        kind = kind_of(adapter)
        self.model = decoder(weights, config, attention=attention)
        self.tokenizer = tokenizer_of(tokenizer or weights)
        self.soft_prompt: SoftPrompt | None = None
        self._adapter = adapter
        self._attention = attention
        self._folded: dict[str, Any] = {}
        self._prompted = True
        self._is_compiled = False
        self._reads_rows: bool | None = None
        self._usage_E: Tensor | None = None
        taken = inspect.signature(self.model.base_model.forward).parameters
        self._takes_positions = "position_ids" in taken
        self._cache_name = "cache" if "cache" in taken else "past_key_values"  # its name before transformers 5.24
        if adapter is not None and kind == "prompt":
            settings = {name: value for name, value in adapter.items() if name != "kind"}
            vocabulary = self.model.get_input_embeddings()
            self.soft_prompt = soft_prompt(settings, vocabulary=vocabulary, tokenizer=self.tokenizer)
        elif adapter is not None:
            if kind == "qlora":
                to_four_bits(self.model)
            add_layers(self.model, adapter)

    @property
    def width(self) -> int:
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def output_matrix(self) -> Tensor:
        matrix: Tensor = self.model.get_output_embeddings().weight
        return matrix

    def recipe(self) -> dict[str, Any]:
        config = {"model_type": self.model.config.model_type, **self.model.config.to_diff_dict()}
        adapter = None if self._folded else self._adapter
        arguments = {"weights": None, "config": config, "adapter": adapter, "attention": self._attention}
        return {"class_path": "mmmed.models.language.CausalLanguageModel", "init_args": arguments}

    def embed(self, ids_BT: Tensor) -> Tensor:
        vocabulary = self.model.get_input_embeddings()
        embeddings: Tensor = vocabulary(ids_BT.where(ids_BT < vocabulary.num_embeddings, 0))
        # What the layers add up stays in float32: in bfloat16 the gradient loses its direction.
        return embeddings.float() if torch.is_autocast_enabled(ids_BT.device.type) else embeddings

    def forward(
        self,
        embeddings_BTD: Tensor,
        attention_BT: Tensor | None,
        *,
        positions_BT: Tensor | None = None,
        cache: Cache | None = None,
        layout: Layout | None = None,
        before: Before | None = None,
    ) -> Tensor:
        length = embeddings_BTD.shape[1]
        how: dict[str, Any] = cache_arguments(self.model, cache)
        if layout is not None:
            self._check_packs(cache)
            attention_BT, positions_BT = None, layout.positions_T.unsqueeze(0)
            how = tree_arguments(self.model, layout, dtype=embeddings_BTD.dtype, before=before)
        if self.soft_prompt is not None and self._prompted:
            if attention_BT is None:
                raise ConfigError("a soft prompt stands in front of one document, not of packed ones; do not pack")
            begins = cache is None or cache.get_seq_length() == 0
            embeddings_BTD, attention_BT, positions_BT = self.soft_prompt.before(
                embeddings_BTD, attention_BT, positions_BT=positions_BT, begins=begins
            )
        if attention_BT is None and not self._takes_positions:
            raise ConfigError(f"{self.model.config.model_type} reads no positions, which tell packed documents apart")
        if positions_BT is None and attention_BT is not None:
            positions_BT = (attention_BT.cumsum(1) - 1).clamp(min=0)[:, -embeddings_BTD.shape[1] :]
        mask: Any = attention_BT
        if attention_BT is not None and positions_BT is not None:
            mask = in_window(self.model.config, attention_BT, positions_BT, dtype=embeddings_BTD.dtype)
        routed = self.training and torch.is_grad_enabled() and hasattr(self.model, "router_aux_loss_coef")
        with self._by_cache() if cache is not None else nullcontext():
            decoded = self.model.base_model(
                inputs_embeds=embeddings_BTD,
                **{"attention_mask": mask, **how},
                **{self._cache_name: cache},
                use_cache=cache is not None,
                **({"position_ids": positions_BT} if self._takes_positions else {}),
                **({"output_router_logits": True} if routed else {}),
            )
        check_read_as_tree(self.model.config, how)
        self.auxiliary_loss = self._balance(decoded.router_logits, attention_BT) if routed else None
        hidden: Tensor = decoded.last_hidden_state[:, -length:]
        return hidden

    @property
    def reads_rows(self) -> bool:
        if self.model.device.type != "cpu":
            return False
        if self._reads_rows is None:
            self._reads_rows = self._can_read_rows()
        return self._reads_rows

    def _can_read_rows(self) -> bool:
        """Try it; eager attention could, but would compute all that trees do not see of each other."""
        if self.model.config._attn_implementation == "eager":
            return False
        try:
            self(self.embed(torch.tensor([[0, 1]])), None, layout=one_after_another([(0, 1), (0, 1)]))
        except ConfigError:
            return False
        return True

    def recompute(self) -> None:
        """Keep no activations within layers while training, but compute them again: less memory, more time.

        Raises:
            ConfigError: The model cannot.
        """
        if not self.model.supports_gradient_checkpointing:
            raise ConfigError(f"{self.model.config.model_type} cannot recompute its activations; set recompute: false")
        how = {"use_reentrant": False}
        if hasattr(self.model, "activation_checkpointing_enable"):
            self.model.activation_checkpointing_enable(how)
        else:  # its name before transformers 5 renamed it
            self.model.gradient_checkpointing_enable(how)

    def compile_layers(self) -> None:
        """Let torch fuse what lies between the matrix products of the layers, for sequences of any length.

        Attention stays as it is, since packed rows are laid out otherwise each time; so do layers with experts, and all
        where a cache is read, whose keys and values grow with every token.
        """
        keep_from_compiling()
        self._is_compiled = True
        for layer in decoder_layers(self):
            if not any("experts" in name for name, _ in layer.named_modules()):
                layer.compile(dynamic=True)

    def _by_cache(self) -> AbstractContextManager[Any]:
        """Around what reads or fills a cache."""
        return torch.compiler.set_stance("force_eager") if self._is_compiled else nullcontext()

    def _check_packs(self, cache: Cache | None) -> None:
        """Refuse what cannot read a packed row."""
        if self.soft_prompt is not None and self._prompted:
            raise ConfigError("a soft prompt stands in front of one conversation, not of packed ones; do not pack")
        if not self._takes_positions:
            raise ConfigError(
                f"{self.model.config.model_type} reads no positions, which branches of a tree count from its trunk; "
                "set packing: null of the data"
            )
        if cache is not None:
            raise ConfigError("a packed row is read at once; read conversations one by one to fill a cache")

    def head(self, hidden_SD: Tensor, *, exact: bool = False) -> Tensor:
        logits: Tensor = logits_of(self.model, hidden_SD.reshape(1, -1, hidden_SD.shape[-1]), exact=exact)
        return logits.reshape(*hidden_SD.shape[:-1], -1)

    @torch.inference_mode()
    def generate(
        self, embeddings_BTD: Tensor, attention_BT: Tensor, *, max_new_tokens: int, streamer: BaseStreamer | None = None
    ) -> Tensor:
        if self.soft_prompt is not None and self._prompted:
            embeddings_BTD, attention_BT, _ = self.soft_prompt.before(embeddings_BTD, attention_BT)
        with self._by_cache():
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

    def measures(self) -> dict[str, Tensor]:
        """What is worth logging of the last training step: the share of the busiest expert, 1 / experts at best."""
        return {} if self._usage_E is None else {"busiest_expert": self._usage_E.max()}

    def finish_training(self) -> None:
        """Put the adapter into the weights, which answers up to a third faster; what is in 4 bits stays there."""
        if self._can_merge and kind_of(self._adapter) != "qlora":
            self.merge()

    def merge(self) -> None:
        """Put the adapter into the weights: the model answers as before, and is saved as one without an adapter.

        Raises:
            ConfigError: It has no adapter, or one that is no part of the weights.
        """
        if not self._can_merge:
            what = "a soft prompt" if self.soft_prompt is not None else "nothing"
            raise ConfigError(f"merge: the language model has {what} to put into its weights; give it a lora adapter")
        self._folded = fold(self.model)

    @property
    def _can_merge(self) -> bool:
        return self._adapter is not None and not self._folded and self.soft_prompt is None

    def unmerge(self) -> None:
        """Take the adapter out of the weights again, so that it can learn on.

        Raises:
            ConfigError: It was not merged.
        """
        if not self._folded:
            raise ConfigError("unmerge: the adapter is not in the weights; merge first")
        unfold(self.model, self._folded)
        self._folded = {}

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The model as it is without its adapter, such as for the reference of a preference objective."""
        self._prompted = False
        try:
            with switched_off(self.model):
                yield
        finally:
            self._prompted = True

    def _balance(self, router_logits: tuple[Tensor, ...], attention_BT: Tensor | None) -> Tensor:
        """The library's own load-balancing loss of a mixture of experts, times the coefficient of its configuration."""
        experts, chosen = self.model.num_experts, self.model.num_experts_per_tok
        balance = sys.modules[type(self.model).__module__].load_balancing_loss_func
        with torch.no_grad():
            picked = torch.cat([logits.topk(chosen, dim=-1).indices.flatten() for logits in router_logits])
            self._usage_E = picked.bincount(minlength=experts) / picked.numel()
        loss: Tensor = self.model.router_aux_loss_coef * balance(router_logits, experts, chosen, attention_BT)
        return loss
