"""Sparse upcycling: a dense language model's own MLPs, copied, become the experts of a mixture."""

from copy import deepcopy
from typing import Any

from torch import nn

from mmmed.errors import ConfigError
from mmmed.models.decoder import decoder_layers
from mmmed.models.experts import MixtureOfExperts
from mmmed.models.language import CausalLanguageModel


def sparse_upcycle(
    model: nn.Module,
    *,
    experts: int = 4,
    top_k: int = 2,
    capacity: float | None = 1.5,
    every: int = 2,
    balance: float = 0.01,
    normalise: bool = True,
) -> list[int]:
    """Replace the MLP of every so-many-th decoder layer, the first among them, by a mixture of copies of it.

    With normalised weights, and in evaluation (where no token is dropped), the model says what it said before.

    Args:
        model: A transformers decoder whose layers have an `mlp`; it is changed in place.
        experts: Copies per layer.
        top_k: Experts per token.
        capacity: How many times its fair share of tokens an expert takes in training; None takes all.
        every: 2 replaces every second MLP.
        balance: Weight of the balance loss.
        normalise: Whether the weights of the chosen experts sum to 1.

    Returns:
        The numbers of the layers that were changed.

    Raises:
        ConfigError: A layer has no `mlp`, or one that is a mixture already.

    Source: Komatsuzaki et al., Sparse Upcycling (2022), section 3; Jiang et al., Med-MoE (2024), section 3.
    """
    layers: Any = decoder_layers(model)
    chosen = list(range(0, len(layers), every))
    config: Any = next(one.config for one in model.modules() if hasattr(one, "config"))
    for number in chosen:
        mlp = getattr(layers[number], "mlp", None)
        if not isinstance(mlp, nn.Module) or any(isinstance(one, nn.ModuleList) for one in mlp.modules()):
            raise ConfigError(
                f"layer {number} ({type(layers[number]).__name__}) has no dense `mlp` to copy into experts; "
                "expected a decoder of the Llama, Qwen, Mistral, Gemma, Phi, GPT-2 or GPT-NeoX kind"
            )
    for number in chosen:
        layer = layers[number]
        layer.mlp = MixtureOfExperts(
            [deepcopy(layer.mlp) for _ in range(experts)],
            width=config.hidden_size,
            top_k=top_k,
            capacity=capacity,
            balance=balance,
            normalise=normalise,
        ).to(next(layer.mlp.parameters()))
    return chosen


class SparseLanguageModel(CausalLanguageModel):
    """A causal language model whose every second MLP is a mixture of experts, copied from its own weights.

    A stage that starts from a model with the dense language model (`init_from`) copies what was learnt there into
    every expert. Parameters beyond the dense model's, per changed layer: D · E for the router, and E - 1 MLPs.

    Args:
        weights: Reference of the dense model's weights, or None for random ones.
        experts: Experts per changed layer.
        top_k: Experts that each token asks.
        capacity: How many times its fair share of tokens an expert takes in training; None takes all.
        every: 2 changes every second layer, the first among them.
        balance: Weight of the balance loss.
        normalise: Whether the weights of the chosen experts sum to 1.
        tokenizer: As of `CausalLanguageModel`, and so are the two that follow; there is no adapter, beside which the
            router would not learn.
        config: Model configuration, needed with random weights.
        attention: Attention implementation of transformers.

    Raises:
        ConfigError: The model has no dense MLPs.

    Source: Jiang et al., Med-MoE (2024), section 3: 4 experts, 1 per token with its own likelihood as weight
    (``top_k: 1, normalise: false``), capacity 1.5, no balance loss, every second layer.
    """

    def __init__(
        self,
        weights: str | None,
        *,
        experts: int = 4,
        top_k: int = 2,
        capacity: float | None = 1.5,
        every: int = 2,
        balance: float = 0.01,
        normalise: bool = True,
        tokenizer: str | None = None,
        config: dict[str, Any] | None = None,
        attention: str | None = None,
    ) -> None:
        super().__init__(weights, tokenizer=tokenizer, config=config, attention=attention)
        self._mixture: dict[str, Any] = {
            "experts": experts,
            "top_k": top_k,
            "capacity": capacity,
            "every": every,
            "balance": balance,
            "normalise": normalise,
        }
        sparse_upcycle(self.model, **self._mixture)

    def recipe(self) -> dict[str, Any]:
        dense = super().recipe()["init_args"]
        kind = type(self)
        arguments = {key: dense[key] for key in ("weights", "config", "attention")} | self._mixture
        return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": arguments}
