"""What holds for every encoder: what is frozen stays as it is, though the rest learns."""

import torch

from mmmed.models.encoders.timm import TimmEncoder


def test_a_frozen_encoder_keeps_its_statistics_in_training() -> None:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    encoder = TimmEncoder("tf_efficientnet_lite0", weights=None, layer=0, size=32).requires_grad_(False).train()
    before = encoder(pixels)
    torch.testing.assert_close(encoder(pixels), before)
    assert not any(module.training for module in encoder.modules())
    assert encoder.requires_grad_(True).train().training


def test_frozen_blocks_keep_their_statistics_while_the_last_one_learns() -> None:
    encoder = TimmEncoder("resnet10t", weights=None, size=32).requires_grad_(False)
    encoder.blocks()[-1].requires_grad_(True)
    encoder.train()
    before = {name: tensor.clone() for name, tensor in encoder.named_buffers()}
    encoder(torch.randn(4, 3, 32, 32))
    changed = {name.split(".")[1] for name, tensor in encoder.named_buffers() if not torch.equal(tensor, before[name])}
    assert changed == {"layer4"}
