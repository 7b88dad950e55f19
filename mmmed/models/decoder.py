"""Where the layers of a decoder are, whatever its family calls them."""

from __future__ import annotations

from torch import nn

from mmmed.errors import ConfigError


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Find the layers of a transformers decoder (`layers` of Llama, `h` of GPT-2 …), which follow one another.

    Args:
        model: The decoder, or a module around it.

    Raises:
        ConfigError: There is no list of as many layers as its configuration says.
    """
    config = next((one.config for one in model.modules() if hasattr(one, "config")), None)
    count = getattr(config, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ConfigError(f"{type(model).__name__} has no list of decoder layers; expected a causal model of transformers")
