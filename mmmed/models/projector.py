"""From image features to the language model's token space.

A projector is any module built from two widths. Letters in tensor names: B batch, N image tokens, W vision
width, L language width.
"""

import math
from typing import Any

from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.shapes import output_shape


class GridPool(nn.Module):
    """Averages neighbouring image tokens, since their number is what a prompt costs on a CPU.

    Args:
        factor: Side of the squares that become one token; 2 turns 14 x 14 tokens into 7 x 7, and 1 does nothing.

    Raises:
        ConfigError: The factor is below 1.
    """

    def __init__(self, factor: int = 1) -> None:
        super().__init__()
        if factor < 1:
            raise ConfigError(f"projector pool is {factor}; expected 1 (no pooling) or more")
        self.factor = factor

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Pool (B, N, W) to (B, N / factor squared, W).

        Raises:
            ConfigError: The tokens are no square grid, or the factor does not divide its side.
        """
        if self.factor == 1:
            return features_BNW
        batch, tokens, width = features_BNW.shape
        side = math.isqrt(tokens)
        if side * side != tokens or side % self.factor:
            raise ConfigError(
                f"projector pool {self.factor} does not fit {tokens} image tokens; expected a square grid (patch "
                "tokens only) whose side it divides, so change pool, or the encoder's size or select"
            )
        grid_BWHH = features_BNW.transpose(1, 2).reshape(batch, width, side, side)
        return nn.functional.avg_pool2d(grid_BWHH, self.factor).flatten(2).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


class LinearProjector(nn.Module):
    """One linear layer, as in the first LLaVA and LLaVA-Med.

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        pool: Side of the squares of image tokens that are averaged into one before projection.

    Source: Liu et al., Visual Instruction Tuning (2023), section 4.1.
    """

    def __init__(self, vision_width: int, language_width: int, pool: int = 1) -> None:
        super().__init__()
        self.pool = GridPool(pool)
        self.linear = nn.Linear(vision_width, language_width)

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, to which the two widths are added."""
        return _recipe(self, pool=self.pool.factor)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Project (B, N, W) to (B, N / pool squared, L)."""
        projected: Tensor = self.linear(self.pool(features_BNW))
        return projected


class MLPProjector(nn.Module):
    """Two linear layers with a GELU between, as in LLaVA-1.5, with the names of its Hugging Face form.

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        hidden: Width between the layers; the language width unless given.
        pool: Side of the squares of image tokens that are averaged into one before projection.

    Source: Liu et al., Improved Baselines with Visual Instruction Tuning (2023), section 3.3.
    """

    def __init__(self, vision_width: int, language_width: int, hidden: int | None = None, pool: int = 1) -> None:
        super().__init__()
        self.pool = GridPool(pool)
        self.linear_1 = nn.Linear(vision_width, hidden or language_width)
        self.linear_2 = nn.Linear(hidden or language_width, language_width)

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, to which the two widths are added."""
        return _recipe(self, pool=self.pool.factor, hidden=self.linear_1.out_features)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Project (B, N, W) to (B, N / pool squared, L)."""
        projected: Tensor = self.linear_2(nn.functional.gelu(self.linear_1(self.pool(features_BNW))))
        return projected


class WordProjector(MLPProjector):
    """An MLP between two layer norms, so that image tokens come in the size of word embeddings from the first step.

    Encoders differ a hundredfold in the size of their features, and a language model that is given tokens far
    larger or smaller than its words learns to read them late.

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        hidden: Width between the layers; the language width unless given.
        pool: Side of the squares of image tokens that are averaged into one before projection.
        scale: Standard deviation of the language model's word embeddings, at which image tokens start.
    """

    def __init__(
        self, vision_width: int, language_width: int, hidden: int | None = None, pool: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__(vision_width, language_width, hidden, pool)
        self.norm_in = nn.LayerNorm(vision_width)
        self.norm_out = nn.LayerNorm(language_width)
        nn.init.constant_(self.norm_out.weight, scale)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Project (B, N, W) to (B, N / pool squared, L)."""
        hidden = nn.functional.gelu(self.linear_1(self.norm_in(self.pool(features_BNW))))
        projected: Tensor = self.norm_out(self.linear_2(hidden))
        return projected


def _recipe(projector: nn.Module, **arguments: Any) -> dict[str, Any]:
    kind = type(projector)
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": arguments, "needs_widths": True}


def projected_tokens(projector: nn.Module, *, tokens: int, width: int) -> int:
    """Count the tokens that an image takes in the prompt, for any projector.

    Args:
        projector: Takes (B, N, W) and gives (B, M, L).
        tokens: Image tokens of the encoder.
        width: Of the encoder's features.

    Raises:
        ConfigError: The projector does not fit the encoder.
    """
    try:
        shape = output_shape(projector, 1, tokens, width)
    except RuntimeError as error:
        name = type(projector).__name__
        raise ConfigError(f"{name} does not take {tokens} image tokens of width {width} ({error})") from error
    return shape[1]
