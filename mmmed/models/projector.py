"""From image features to the language model's token space: projectors that treat each place of the image alike.

A projector is any module built from two widths; others are in `perceiver.py`, `qformer.py` and `experts.py`, and
docs/projectors.md compares them all. Letters in tensor names: B batch, N image tokens, W vision width, L language
width, K tokens that come out.
"""

import math
from itertools import pairwise
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
        side = _side(tokens, factor=self.factor, called="pool")
        grid_BWHH = features_BNW.transpose(1, 2).reshape(batch, width, side, side)
        return nn.functional.avg_pool2d(grid_BWHH, self.factor).flatten(2).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


class PixelShuffle(nn.Module):
    """Joins the features of neighbouring image tokens into one and projects them, as nanoVLM and SmolVLM do.

    Nothing is averaged away: the tokens that a square of the grid holds are put one after another, row by row, and
    one linear layer without a bias reads them all, under the name that Idefics3 and SmolVLM give it.

    Shapes: (B, N, W) to (B, N / factor squared, L). Parameters: factor² · W · L.

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        factor: Side of the squares of image tokens that become one; nanoVLM takes 4.

    Raises:
        ConfigError: The factor is below 1.

    Source: Laurençon et al., Building and better understanding vision-language models (Idefics3, 2024), section 3.2;
    Marafioti et al., SmolVLM (2025), section 2.2.
    """

    def __init__(self, vision_width: int, language_width: int, factor: int = 2) -> None:
        super().__init__()
        if factor < 1:
            raise ConfigError(f"pixel shuffle factor is {factor}; expected 1 (no shuffle) or more")
        self.factor = factor
        self.proj = nn.Linear(vision_width * factor**2, language_width, bias=False)

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, to which the two widths are added."""
        return projector_recipe(self, factor=self.factor)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Join and project (B, N, W) to (B, N / factor squared, L).

        Raises:
            ConfigError: The tokens are no square grid, or the factor does not divide its side.
        """
        batch, tokens, width = features_BNW.shape
        squares = _side(tokens, factor=self.factor, called="factor") // self.factor
        grid = features_BNW.reshape(batch, squares, self.factor, squares, self.factor, width).transpose(2, 3)
        projected: Tensor = self.proj(grid.reshape(batch, squares**2, self.factor**2 * width))
        return projected


class LinearProjector(nn.Module):
    """One linear layer, as in the first LLaVA and LLaVA-Med.

    Shapes: (B, N, W) to (B, N / pool squared, L). Parameters: W · L + L.

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
        return projector_recipe(self, pool=self.pool.factor)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Project (B, N, W) to (B, N / pool squared, L)."""
        projected: Tensor = self.linear(self.pool(features_BNW))
        return projected


class MLPProjector(nn.Module):
    """Linear layers with a GELU between each two, `linear_1` to `linear_n`; two are LLaVA-1.5's, by its hub names.

    Shapes: (B, N, W) to (B, N / pool squared, L). Parameters, with H hidden and n layers:
    W · H + H for the first, H² + H for each of n - 2, H · L + L for the last; W · L + L in all for n = 1.

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        hidden: Width between the layers; the language width unless given.
        pool: Side of the squares of image tokens that are averaged into one before projection.
        layers: Number of linear layers.

    Raises:
        ConfigError: There are no layers.

    Source: Liu et al., Improved Baselines with Visual Instruction Tuning (2023), section 3.3.
    """

    def __init__(
        self, vision_width: int, language_width: int, hidden: int | None = None, pool: int = 1, layers: int = 2
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ConfigError(f"MLP projector of {layers} layers; expected 1 or more")
        self.pool = GridPool(pool)
        self.hidden, self.layers = hidden or language_width, layers
        widths = [vision_width, *[self.hidden] * (layers - 1), language_width]
        for number, (width_in, width_out) in enumerate(pairwise(widths), start=1):
            self.add_module(f"linear_{number}", nn.Linear(width_in, width_out))

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, to which the two widths are added."""
        return projector_recipe(self, pool=self.pool.factor, hidden=self.hidden, layers=self.layers)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Project (B, N, W) to (B, N / pool squared, L)."""
        return self._through(self.pool(features_BNW))

    def _through(self, hidden: Tensor) -> Tensor:
        hidden = self.get_submodule("linear_1")(hidden)
        for number in range(2, self.layers + 1):
            hidden = self.get_submodule(f"linear_{number}")(nn.functional.gelu(hidden))
        return hidden


class WordProjector(MLPProjector):
    """An MLP between two layer norms, so that image tokens come in the size of word embeddings from the first step.

    Encoders differ a hundredfold in the size of their features, and a language model that is given tokens far
    larger or smaller than its words learns to read them late.

    Shapes: (B, N, W) to (B, N / pool squared, L). Parameters: those of the MLP, and 2 · W + 2 · L.

    Args:
        vision_width: Of the image features.
        language_width: Of the language model's token embeddings.
        hidden: Width between the layers; the language width unless given.
        pool: Side of the squares of image tokens that are averaged into one before projection.
        scale: Standard deviation of the language model's word embeddings, at which image tokens start.
        layers: Number of linear layers.
    """

    def __init__(
        self,
        vision_width: int,
        language_width: int,
        hidden: int | None = None,
        pool: int = 1,
        scale: float = 1.0,
        layers: int = 2,
    ) -> None:
        super().__init__(vision_width, language_width, hidden, pool, layers)
        self.norm_in = nn.LayerNorm(vision_width)
        self.norm_out = nn.LayerNorm(language_width)
        nn.init.constant_(self.norm_out.weight, scale)

    def forward(self, features_BNW: Tensor) -> Tensor:
        """Project (B, N, W) to (B, N / pool squared, L)."""
        projected: Tensor = self.norm_out(self._through(self.norm_in(self.pool(features_BNW))))
        return projected


def _side(tokens: int, *, factor: int, called: str) -> int:
    """Side of the square grid of tokens.

    Raises:
        ConfigError: It is no square grid, or the factor does not divide its side.
    """
    side = math.isqrt(tokens)
    if side * side != tokens or side % factor:
        raise ConfigError(
            f"projector {called} {factor} does not fit {tokens} image tokens; expected a square grid (patch "
            f"tokens only) whose side it divides, so change {called}, or the encoder's size or select"
        )
    return side


def projector_recipe(projector: nn.Module, **arguments: Any) -> dict[str, Any]:
    """How to build a projector again: its class path and arguments, to which the two widths are added."""
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
