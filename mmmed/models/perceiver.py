"""A fixed number of tokens from any number of image features: the perceiver resampler.

Letters in tensor names: B batch, N image tokens, W vision width, L language width, K latents, H heads, G heads of
keys and values, C width of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from mmmed.errors import ConfigError
from mmmed.models.projector import projector_recipe


class PerceiverResampler(nn.Module):
    """Asks the image a fixed number of learned questions (latents), so that its size does not change the prompt.

    Features are brought to the language width first; then each layer lets the latents attend to the features and to
    each other. Layout and names are those of the connector of Idefics2, whose weights load as they are.

    Shapes: (B, N, W) to (B, K, L) for any N. Parameters, with M hidden, H heads of width C and G heads of keys and
    values: W · M + W · M + M · L for the way in, K · L latents, L for the last norm, and per layer
    3 · L + 2 · L · H · C + 2 · L · G · C + 12 · L².

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        latents: Tokens that come out.
        depth: Layers.
        heads: Heads of the latents' attention.
        head_width: Width of a head.
        key_value_heads: Heads of keys and values, each shared by `heads / key_value_heads` heads.
        hidden: Hidden width on the way in; four times the language width unless given.
        epsilon: Of the norms.

    Raises:
        ConfigError: The heads cannot share the heads of keys and values equally.

    Source: Jaegle et al., Perceiver (2021), section 3; Alayrac et al., Flamingo (2022), section 2.1; this form:
    Laurençon et al., What matters when building vision-language models? (Idefics2, 2024), section 3. Latents start at
    random, as in Flamingo: equal ones, which transformers starts with, would stay equal.
    """

    def __init__(
        self,
        vision_width: int,
        language_width: int,
        latents: int = 64,
        depth: int = 3,
        heads: int = 16,
        head_width: int = 96,
        key_value_heads: int = 4,
        hidden: int | None = None,
        epsilon: float = 1e-6,
    ) -> None:
        super().__init__()
        if heads % key_value_heads:
            raise ConfigError(f"{heads} heads cannot share {key_value_heads} key_value_heads; expected a divisor")
        self._rebuild = {
            "latents": latents,
            "depth": depth,
            "heads": heads,
            "head_width": head_width,
            "key_value_heads": key_value_heads,
            "hidden": hidden or 4 * language_width,
            "epsilon": epsilon,
        }
        self.modality_projection = GatedMLP(vision_width, hidden or 4 * language_width, language_width)
        self.perceiver_resampler = nn.Module()
        self.perceiver_resampler.latents = nn.Parameter(torch.randn(latents, language_width) * 0.02)
        self.perceiver_resampler.layers = nn.ModuleList(
            _PerceiverLayer(language_width, heads, head_width, key_value_heads, epsilon) for _ in range(depth)
        )
        self.perceiver_resampler.norm = nn.RMSNorm(language_width, eps=epsilon)

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, to which the two widths are added."""
        return projector_recipe(self, **self._rebuild)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Resample (B, N, W) to (B, K, L)."""
        context_BNL = self.modality_projection(features_BNW)
        resampler: Any = self.perceiver_resampler
        latents_BKL = resampler.latents.expand(len(features_BNW), -1, -1)
        for layer in resampler.layers:
            latents_BKL = layer(latents_BKL, context_BNL)
        resampled_BKL: Tensor = resampler.norm(latents_BKL)
        return resampled_BKL


class GatedMLP(nn.Module):
    """A hidden layer whose units are gated by a second one through a SiLU, as Llama has it; without biases.

    Source: Shazeer, GLU Variants Improve Transformer (2020), equation 6.
    """

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width_in, hidden, bias=False)
        self.up_proj = nn.Linear(width_in, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width_out, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        mapped: Tensor = self.down_proj(silu(self.gate_proj(features)) * self.up_proj(features))
        return mapped


class Attention(nn.Module):
    """Attention of one sequence to another, without biases, with the names of transformers' decoders.

    Args:
        width: Of the sequence that asks, and of what comes out.
        context_width: Of the sequence that is asked.
        heads: Heads that ask.
        head_width: Width of a head.
        key_value_heads: Heads that answer.
    """

    def __init__(self, width: int, *, context_width: int, heads: int, head_width: int, key_value_heads: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.q_proj = nn.Linear(width, heads * head_width, bias=False)
        self.k_proj = nn.Linear(context_width, key_value_heads * head_width, bias=False)
        self.v_proj = nn.Linear(context_width, key_value_heads * head_width, bias=False)
        self.o_proj = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, asks_BTD: Tensor, context_BNW: Tensor, *, allowed: Tensor | None = None) -> Tensor:
        """Attend to the context where `allowed` (B, 1, T, N) says so; everywhere without it."""
        queries_BHTC = self._heads(self.q_proj(asks_BTD))
        keys_BGNC, values_BGNC = self._heads(self.k_proj(context_BNW)), self._heads(self.v_proj(context_BNW))
        read_BHTC = scaled_dot_product_attention(
            queries_BHTC,
            keys_BGNC,
            values_BGNC,
            attn_mask=allowed,
            enable_gqa=keys_BGNC.shape[1] < queries_BHTC.shape[1],
        )
        read_BTD: Tensor = self.o_proj(read_BHTC.transpose(1, 2).flatten(2))
        return read_BTD

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], -1, self.head_width).transpose(1, 2)


class _PerceiverLayer(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int, key_value_heads: int, epsilon: float) -> None:
        super().__init__()
        self.input_latents_norm = nn.RMSNorm(width, eps=epsilon)
        self.input_context_norm = nn.RMSNorm(width, eps=epsilon)
        self.self_attn = Attention(
            width, context_width=width, heads=heads, head_width=head_width, key_value_heads=key_value_heads
        )
        self.post_attention_layernorm = nn.RMSNorm(width, eps=epsilon)
        self.mlp = GatedMLP(width, 4 * width, width)

    def forward(self, latents_BKL: Tensor, context_BNL: Tensor) -> Tensor:
        normed_BKL = self.input_latents_norm(latents_BKL)
        seen = torch.cat([self.input_context_norm(context_BNL), normed_BKL], dim=1)
        latents_BKL = latents_BKL + self.self_attn(normed_BKL, seen)
        refined_BKL: Tensor = latents_BKL + self.mlp(self.post_attention_layernorm(latents_BKL))
        return refined_BKL
