"""Shapes without computing: what a module makes of an input, found by running it on tensors without content."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


def output_shape(module: nn.Module, *input_shape: int) -> torch.Size:
    """Give the shape that a module makes of one float input; nothing is computed and no memory is taken.

    The module's own complaint about an input that does not suit it (`RuntimeError`, `AssertionError` or
    `ValueError`) is passed on.
    """
    named = [*module.named_parameters(), *module.named_buffers()]
    without_content = {name: tensor.to("meta") for name, tensor in named}
    training = module.training
    module.eval()  # batch normalisation would refuse a single value per channel
    try:
        with torch.no_grad():
            output: Tensor = functional_call(module, without_content, (torch.empty(input_shape, device="meta"),))
    finally:
        module.train(training)
    return output.shape
