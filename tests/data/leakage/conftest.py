"""Pictures with shapes and textures of their own, as thumbnails and as films."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as functional

Textures = Callable[..., torch.Tensor]


@pytest.fixture
def textures() -> Textures:
    """Makes thumbnails (count, 64, 64) uint8 that have a body plan in common and are otherwise random."""

    def make(count: int, *, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        place = torch.linspace(-1, 1, 64)
        seen = (0.5 + 0.3 * torch.cos(3 * place)[:, None] * torch.cos(5 * place)).expand(count, 64, 64)
        for cells, height in ((6, 0.06), (16, 0.05), (32, 0.04)):
            field = torch.randn(count, 1, cells, cells, generator=generator)
            seen = seen + height * functional.interpolate(field, size=64, mode="bicubic")[:, 0]
        return (seen.clamp(0, 1) * 255).round().to(torch.uint8)

    return make
