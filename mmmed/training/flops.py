"""Floating-point operations of a training step, counted from shapes: what a plan promises and a log holds it to.

Only matrix products and convolutions count, two operations for each multiplication and addition, as is the custom
for model FLOPs utilisation. Padding is no use and does not count, nor does what is computed a second time to save
memory, nor an encoder whose features are kept.

Source: Chowdhery et al., PaLM (2022), appendix B, with the attention of every token to every token of its sequence;
Kaplan et al., Scaling Laws for Neural Language Models (2020), section 2.1.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from mmmed.models.decoder import decoder_layers
from mmmed.models.features import FrozenFeatures
from mmmed.models.parts import ModelOfParts
from mmmed.models.vlm import Batch, VisionLanguageModel

# Shape letters: B batch, T tokens, N images.


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of a step."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        return self.forward + self.backward

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.forward + other.forward, self.backward + other.backward)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a unit of something costs, and how much of it the gradient asks for again.

    Args:
        forward: Operations of one unit.
        inputs: Share of them that the gradient of what was read costs: 0 where no gradient flows, else 1, and 2 where
            both factors of a product are read, as in attention.
        weights: Share of them whose weights learn.
    """

    forward: float
    inputs: float
    weights: float

    def times(self, units: float) -> Flops:
        """Of so many units."""
        return Flops(self.forward * units, self.forward * units * (self.inputs + self.weights))


@dataclass(frozen=True, slots=True)
class StepCost:
    """What the parts of a step cost, from which that of any batch follows.

    Args:
        image: Encoder and projector, of one image.
        token: The decoder's products with weights, of one token.
        pair: Its attention, of a token to a token.
        answer: The vocabulary's product, of one supervised token.
    """

    images: tuple[Cost, ...]
    token: Cost
    pair: Cost
    answer: Cost

    def of(self, batch: Batch) -> Flops:
        """Operations of a step on a batch. Of a packed one, what stands once is computed once, and no token reads what
        is not of its own conversation."""
        supervised = len(batch.learned().ids_S)
        if batch.layout is None:
            lengths_B = batch.attention_BT.sum(1).tolist()
            return self.of_sizes(images=batch.images, lengths=lengths_B, supervised=supervised)
        # Summed over a sequence, twice the tokens before each and itself are the square of its length.
        pairs = int((2 * batch.layout.positions_T + 1).sum())
        return self._of(images=batch.images, tokens=len(batch.layout.positions_T), pairs=pairs, supervised=supervised)

    def of_sizes(self, *, images: float, lengths: list[int], supervised: float) -> Flops:
        """Operations of a step on sequences of these lengths."""
        pairs = sum(one**2 for one in lengths)
        return self._of(images=images, tokens=sum(lengths), pairs=pairs, supervised=supervised)

    def _of(self, *, images: float, tokens: float, pairs: float, supervised: float) -> Flops:
        total = self.token.times(tokens) + self.pair.times(pairs) + self.answer.times(supervised)
        for cost in self.images:
            total += cost.times(images)
        return total


def step_cost(model: ModelOfParts) -> StepCost | None:
    """What a step of a model costs, as its parameters now learn; None of a model that reads images and texts apart."""
    if not isinstance(model, VisionLanguageModel):
        return None
    images: list[Cost] = []
    flows = False
    if model.vision is not None:
        if not isinstance(model.vision, FrozenFeatures):
            size = model.vision.transform.size
            images.append(_cost_of(model.vision, torch.empty(1, 3, size, size, device="meta"), flows=False))
            flows = _learns(model.vision)
        assert model.projector is not None
        features_1NW = torch.empty(1, model.vision.tokens, model.vision.width, device="meta")
        images.append(_cost_of(model.projector, features_1NW, flows=flows))
        flows = flows or _learns(model.projector) or _learns(model.order) or _learns(model.cross_attention)
    return _with_language(model, tuple(images), flows=flows)


def _with_language(model: VisionLanguageModel, images: tuple[Cost, ...], *, flows: bool) -> StepCost:
    language: Any = model.language
    layers, config = decoder_layers(language), language.model.config
    has, learns = _products(layers, config)
    # A frozen decoder passes gradients on only where something in front of it, or an adapter inside it, learns.
    inputs = float(flows or _learns(language))
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    matrix = language.output_matrix
    return StepCost(
        images=images,
        token=Cost(2.0 * has, inputs, learns / max(1, has)),
        pair=Cost(4.0 * width * len(layers), 2 * inputs, 0.0),
        answer=Cost(2.0 * matrix.numel(), inputs, float(matrix.requires_grad)),
    )


def _products(layers: nn.Module, config: Any) -> tuple[float, float]:
    """Entries of the matrices that a token is multiplied with, and of those that learn; experts that it passes by count
    as much less."""
    has = learns = 0.0
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    for name, weight in layers.named_parameters():
        if weight.ndim < 2:
            continue
        used = weight.numel() * (config.num_experts_per_tok / experts if experts and ".experts." in name else 1.0)
        has += used
        learns += used * weight.requires_grad
    return has, learns


def _cost_of(module: nn.Module, example: Tensor, *, flows: bool) -> Cost:
    """Count a module that reads one thing; no memory is taken and nothing computed."""
    held = [*module.named_parameters(), *module.named_buffers()]
    # Made anew, since what is cut over ranks does not mix with what is not.
    named = {name: torch.empty(one.shape, dtype=one.dtype, device="meta") for name, one in held}
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            functional_call(module, named, (example,))
    finally:
        module.train(training)
    matrices = [one for one in module.parameters() if one.ndim > 1]
    share = sum(one.numel() for one in matrices if one.requires_grad) / max(1, sum(one.numel() for one in matrices))
    # Of a module that only begins to learn in the middle, gradients flow back as far as there.
    return Cost(float(counter.get_total_flops()), 1.0 if flows else share * _depth(matrices), share)


def _depth(matrices: list[nn.Parameter]) -> float:
    """Share of the products through which a gradient flows back to what they read: of a single one, none."""
    learning = sum(one.requires_grad for one in matrices)
    return (learning - 1) / learning if learning else 0.0


def _learns(part: nn.Module | None) -> bool:
    return part is not None and any(one.requires_grad for one in part.parameters())
