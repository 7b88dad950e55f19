"""Mixtures of experts: several networks of one kind, of which each token asks the few that a router names.

Letters in tensor names: T tokens, W width, E experts, K experts per token, L language width, N image tokens, B batch.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.auxiliary import Auxiliary
from mmmed.models.projector import GridPool, MLPProjector, projector_recipe


class MixtureOfExperts(nn.Module, Auxiliary):
    """Sends each token to the experts that a linear router finds likeliest, and sums what they say by likelihood.

    With a capacity, an expert takes at most ``ceil(capacity · K · T / E)`` tokens in training; first choices go
    before second ones, and earlier tokens before later ones. A token that comes too late gets zero from that expert:
    inside a decoder layer the residual passes it on unchanged, and a projector gives a smaller (or zero) image token.
    In evaluation no token is dropped, so that an answer does not depend on what else is in the batch.
    All tokens count, those of padding too, for a layer sees no mask.

    In training it keeps `auxiliary_loss`: the balance loss times its weight. `measures` tells the share of the
    choices that each expert got (`share_0` …), what was dropped, and the balance loss before weighting: 1 when
    balanced, E at worst.

    Shapes: (…, W) to (…, what an expert makes of W). Parameters: W · E for the router, and those of the experts.

    Args:
        experts: Networks of equal shapes.
        width: W, of the tokens.
        top_k: Experts per token.
        capacity: How many times its fair share of tokens an expert takes in training; None takes all.
        balance: Weight of the balance loss.
        normalise: Whether the weights of the chosen experts sum to 1, as in GShard and Mixtral; they are the
            router's own likelihoods otherwise, as in Switch. With one expert per token a normalised weight is 1,
            and the router then learns by the balance loss alone.

    Raises:
        ConfigError: There are fewer experts than a token asks.

    Source: Lepikhin et al., GShard (2020), section 2.2 (choice and capacity); Fedus et al., Switch Transformers (2021),
    section 2.2, equations 4 to 6 (balance loss, here over all K choices, divided by K).
    """

    def __init__(
        self,
        experts: Sequence[nn.Module],
        *,
        width: int,
        top_k: int = 2,
        capacity: float | None = None,
        balance: float = 0.01,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= len(experts):
            raise ConfigError(f"top_k is {top_k} of {len(experts)} experts; expected 1 to {len(experts)}")
        if capacity is not None and capacity <= 0:
            raise ConfigError(f"capacity of experts is {capacity}; expected more than 0, or null to drop no token")
        self.router = nn.Linear(width, len(experts), bias=False)
        self.experts = nn.ModuleList(experts)
        self.top_k, self.capacity, self.balance, self.normalise = top_k, capacity, balance, normalise
        self._measures: dict[str, Tensor] = {}

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (…, W) to (…, L)."""
        tokens_TW = tokens.flatten(0, -2)
        if tokens.is_meta:  # only the shape is asked for, and who goes where has no content
            shaped: Tensor = self.experts[0](tokens)
            return shaped
        likelihoods_TE = self.router(tokens_TW).float().softmax(-1)
        weights_TK, choices_TK = likelihoods_TE.topk(self.top_k, dim=-1)
        if self.normalise:
            weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True)
        kept_TK = self._kept(choices_TK)
        self._describe(likelihoods_TE, choices_TK, kept_TK)
        mixed_TL = self._ask(tokens_TW, choices_TK, kept_TK, weights_TK.to(tokens.dtype))
        return mixed_TL.view(*tokens.shape[:-1], -1)

    def measures(self) -> dict[str, Tensor]:
        return self._measures

    def _ask(self, tokens_TW: Tensor, choices_TK: Tensor, kept_TK: Tensor, weights_TK: Tensor) -> Tensor:
        parts, places = [], []
        # An expert without tokens runs too, on none: every parameter gets a gradient, which DDP waits for.
        for number, expert in enumerate(self.experts):
            rows, ranks = ((choices_TK == number) & kept_TK).nonzero(as_tuple=True)
            parts.append(expert(tokens_TW[rows]) * weights_TK[rows, ranks].unsqueeze(-1))
            places.append(rows)
        said = torch.cat(parts)
        return said.new_zeros(len(tokens_TW), said.shape[-1]).index_add(0, torch.cat(places), said)

    def _kept(self, choices_TK: Tensor) -> Tensor:
        if not self.training or self.capacity is None:
            return torch.ones_like(choices_TK, dtype=torch.bool)
        most = math.ceil(self.capacity * choices_TK.numel() / len(self.experts))
        return within_capacity(choices_TK, experts=len(self.experts), most=most)

    def _describe(self, likelihoods_TE: Tensor, choices_TK: Tensor, kept_TK: Tensor) -> None:
        share_E = nn.functional.one_hot(choices_TK, len(self.experts)).float().mean((0, 1))
        balance = len(self.experts) * (share_E * likelihoods_TE.mean(0)).sum()
        self.auxiliary_loss = self.balance * balance if self.training and torch.is_grad_enabled() else None
        shares = {f"share_{number}": share for number, share in enumerate(share_E.unbind())}
        self._measures = {**shares, "dropped": 1 - kept_TK.float().mean(), "balance": balance.detach()}


def within_capacity(choices_TK: Tensor, *, experts: int, most: int) -> Tensor:
    """Which choices an expert that takes at most `most` tokens accepts: first choices first, then by place."""
    by_rank = choices_TK.T.flatten()
    before = nn.functional.one_hot(by_rank, experts).cumsum(0).gather(1, by_rank.unsqueeze(1)).squeeze(1) - 1
    return (before < most).view(choices_TK.shape[1], -1).T


class ExpertsProjector(nn.Module):
    """Several MLP projectors between which a router chooses for each image token.

    Shapes: (B, N, W) to (B, N / pool squared, L). Parameters: W · E for the router, and E times those of the MLP.
    With one expert it gives exactly what the MLP gives.

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        experts: Number of MLPs.
        top_k: MLPs that each image token asks.
        capacity: How many times its fair share of tokens an MLP takes in training; None takes all.
        balance: Weight of the balance loss.
        normalise: Whether the weights of the chosen MLPs sum to 1.
        hidden: Width between the layers of an MLP; the language width unless given.
        pool: Side of the squares of image tokens that are averaged into one before projection.
        layers: Linear layers of an MLP.

    Source: Li et al., CuMo: Scaling Multimodal LLM with Co-Upcycled Mixture-of-Experts (2024), section 3.2. Its
    experts are copies of a trained MLP, as they are here when a stage starts from a model with an `MLPProjector`.
    """

    def __init__(
        self,
        vision_width: int,
        language_width: int,
        experts: int = 4,
        top_k: int = 2,
        capacity: float | None = None,
        balance: float = 0.01,
        normalise: bool = True,
        hidden: int | None = None,
        pool: int = 1,
        layers: int = 2,
    ) -> None:
        super().__init__()
        self._rebuild = {
            "experts": experts,
            "top_k": top_k,
            "capacity": capacity,
            "balance": balance,
            "normalise": normalise,
            "hidden": hidden,
            "pool": pool,
            "layers": layers,
        }
        self.pool = GridPool(pool)
        self.mixture = MixtureOfExperts(
            [MLPProjector(vision_width, language_width, hidden=hidden, layers=layers) for _ in range(experts)],
            width=vision_width,
            top_k=top_k,
            capacity=capacity,
            balance=balance,
            normalise=normalise,
        )

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, to which the two widths are added."""
        return projector_recipe(self, **self._rebuild)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Project (B, N, W) to (B, N / pool squared, L)."""
        projected: Tensor = self.mixture(self.pool(features_BNW))
        return projected
