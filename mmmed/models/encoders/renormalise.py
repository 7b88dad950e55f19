"""Pixels that were prepared for one encoder, given to another.

Letters in tensor names: B batch, C colours (3), H and W pixels.
"""

import torch
from torch import Tensor, nn

from mmmed.transforms import ImageTransform


class Renormalise(nn.Module):
    """Turns pixels prepared as one transform says into those of another, in size and normalisation.

    Where size and normalisation agree, nothing changes by a bit; where sizes agree, the difference to preparing the
    picture anew is that of rounding. A picture is resized with the wanted transform's filter (antialiased, as
    Pillow's) but from the given one's square, not from the original. The letterbox stays that of the given one.

    Mean and standard deviation are part of the state, since they belong to the weights: a saved model keeps them
    though its recipe does not.

    Args:
        given: How the pixels were prepared.
        wanted: How they are to be.
    """

    given_mean: Tensor
    given_std: Tensor
    wanted_mean: Tensor
    wanted_std: Tensor

    def __init__(self, given: ImageTransform, wanted: ImageTransform) -> None:
        super().__init__()
        self.size, self.interpolation = wanted.size, wanted.interpolation
        for name, transform in (("given", given), ("wanted", wanted)):
            self.register_buffer(f"{name}_mean", torch.tensor(transform.mean).view(3, 1, 1))
            self.register_buffer(f"{name}_std", torch.tensor(transform.std).view(3, 1, 1))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Turn (B, 3, given, given) into (B, 3, wanted, wanted)."""
        if pixels_BCHW.shape[-1] != self.size:
            pixels_BCHW = self._resized(pixels_BCHW)
        scale = self.given_std / self.wanted_std
        shift = (self.given_mean - self.wanted_mean) / self.wanted_std
        return pixels_BCHW * scale + shift

    def _resized(self, pixels_BCHW: Tensor) -> Tensor:
        side = (self.size, self.size)
        resized = nn.functional.interpolate(pixels_BCHW, side, mode=self.interpolation, antialias=True)
        # A cubic filter overshoots at edges, beyond black and white.
        black, white = -self.given_mean / self.given_std, (1 - self.given_mean) / self.given_std
        return resized.clamp(black, white)
