"""Large pictures, seen once as a whole and once in parts.

Letters in tensor names: B batch, C colours (3), H and W pixels, S side of a tile in pixels, G tiles along a side,
N tokens per tile; in ``features_BNW``, W is the width of the features.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmmed.errors import ConfigError
from mmmed.models.encoders.fused import refuse_kept
from mmmed.models.encoders.renormalise import Renormalise
from mmmed.models.vision import VisionEncoder


class TiledEncoder(VisionEncoder):
    """Shows an encoder the whole picture and then its tiles at full size, so that fine detail is not lost.

    The tokens are those of the overview, then those of each tile, row by row from the top left. The features do
    not say which tile they are of; their fixed places in the sequence do.

    Args:
        encoder: Sees the overview and every tile, each at its own size.
        grid: Tiles along a side; the picture is prepared at `grid` times the encoder's size, and takes
            1 + grid squared times its tokens.

    Raises:
        ConfigError: The grid is below 2, or the encoder has its features kept.

    Source: Liu et al., Improved Baselines with Visual Instruction Tuning (2023), section 3.4 (LLaVA-1.5-HD), and
    LLaVA-NeXT (2024). Deviations: one fixed square grid for every picture, in place of the best of several; the
    letterbox bars are kept; tiles stand one after another, in place of being merged row by row; no newline token.
    """

    def __init__(self, encoder: VisionEncoder, grid: int = 2) -> None:
        super().__init__()
        if grid < 2:
            raise ConfigError(f"TiledEncoder: grid is {grid}; expected 2 or more, or the encoder alone")
        refuse_kept(encoder, by="TiledEncoder")
        self.encoder, self.grid = encoder, grid
        self.transform = replace(encoder.transform, size=grid * encoder.transform.size)
        self.overview = Renormalise(self.transform, encoder.transform)
        self.tokens, self.width = (1 + grid * grid) * encoder.tokens, encoder.width

    def recipe(self) -> dict[str, Any]:
        return {
            "class_path": f"{__name__}.TiledEncoder",
            "init_args": {"encoder": self.encoder.recipe(), "grid": self.grid},
        }

    def blocks(self) -> list[nn.Module]:
        """Those of the encoder."""
        return self.encoder.blocks()

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, tokens, width)."""
        overview_B1CSS = self.overview(pixels_BCHW).unsqueeze(1)
        views = torch.cat([overview_B1CSS, tiles(pixels_BCHW, grid=self.grid)], dim=1)
        features: Tensor = self.encoder(views.flatten(0, 1))
        return features.reshape(len(pixels_BCHW), self.tokens, self.width)


def tiles(pixels_BCHW: Tensor, *, grid: int) -> Tensor:
    """Cut pictures (B, C, G * S, G * S) into tiles (B, G * G, C, S, S), row by row from the top left."""
    batch, colours, height, width = pixels_BCHW.shape
    cells = pixels_BCHW.view(batch, colours, grid, height // grid, grid, width // grid)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
