"""Image encoders: from pixels to the features of one layer, as a row of tokens.

Letters in tensor names: B batch, C colours (3), H and W pixels or grid cells, N tokens per image; in
``features_BNW``, W is the width of the features.

An encoder owns its `transform`, so that pixels are always prepared as its weights expect. Only what the chosen
layer needs is kept: parameters that would get no gradient make distributed training hang. This file holds the
seam and what the encoders share; the encoders themselves are in `mmmed.models.encoders`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmmed.errors import CheckpointError, ConfigError
from mmmed.models.shapes import output_shape
from mmmed.transforms import ImageTransform, Interpolation

Layer = int | Literal["final"]
"""A block counted from 0 or from the end, without the final norm; or what the architecture itself ends with."""

Select = Literal["patch", "cls_patch", "pooled"]
"""The patch tokens; the class token in front of them; or one token, as the library itself pools the last layer."""

Fill = Literal["black", "mean"]
Colour = tuple[float, float, float]


class VisionEncoder(nn.Module, ABC):
    """What every image encoder offers to the model it is part of.

    A subclass builds its network and then calls `finish`.
    """

    transform: ImageTransform
    width: int
    tokens: int

    @abstractmethod
    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size), normalised as `transform` says, to features (B, tokens, width)."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """Class path and arguments that build the same architecture without its weights."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The blocks or stages from first to last, so that the last few can learn alone.

        What follows the last block (a final norm, a pooling head) belongs to it.
        """

    def finish(self, transform: ImageTransform) -> None:
        """Set the transform, and find out how many tokens of what width come out.

        Raises:
            ConfigError: The network cannot take images of this size.
        """
        self.transform = transform
        try:
            _, self.tokens, self.width = output_shape(self, 1, 3, transform.size, transform.size)
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ConfigError(
                f"{type(self).__name__} cannot take images of size {transform.size} ({reason}); "
                "leave size out for that of the weights"
            ) from error

    def train(self, mode: bool = True) -> "VisionEncoder":
        """Switch to training, except for what is frozen: that keeps its statistics and drops nothing."""
        super().train(mode and _learns(self))
        if self.training:
            for module in self.modules():
                if any(True for _ in module.parameters()) and not _learns(module):
                    module.eval()
        return self


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def encoder_recipe(encoder: VisionEncoder, **arguments: Any) -> dict[str, Any]:
    """The recipe of an encoder of these arguments, without its weights and at its size."""
    kind = type(encoder)
    known = {"weights": None, "size": encoder.transform.size}
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": known | arguments}


def check_select(select: Select, *, layer: Layer) -> None:
    """Refuse to pool a layer that the library's own pooling never sees.

    Raises:
        ConfigError: The select is `pooled` and the layer is not `final`.
    """
    if select == "pooled" and layer != "final":
        raise ConfigError(
            f"select pooled takes the library's own pooling of its last layer; set layer: final, not {layer}"
        )


def selected(patches_BNW: Tensor, *, class_token: Tensor | None, select: Select) -> Tensor:
    """The patch tokens, with the class token (B, 1, W) in front of them where that is asked for.

    Raises:
        ConfigError: There is no class token.
    """
    if select == "patch":
        return patches_BNW
    if class_token is None:
        raise ConfigError("select cls_patch: this architecture has no class token; expected select: patch")
    return torch.cat([class_token, patches_BNW], dim=1)


def one_token(pooled: Tensor) -> Tensor:
    """Make of a library's pooled output (B, W) a row of one token (B, 1, W).

    Raises:
        ConfigError: The library gave something that is not one vector per image.
    """
    if pooled.ndim != 2:
        raise ConfigError("select pooled: this architecture does not pool its last layer; expected select: patch")
    return pooled.unsqueeze(1)


def blocks_with_tail(model: nn.Module, blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """The blocks, the last together with all parts of the model that come after it and have parameters."""
    parts = list(model.children())
    holder = max(index for index, part in enumerate(parts) if any(one is blocks[-1] for one in part.modules()))
    tail = [part for part in parts[holder + 1 :] if any(True for _ in part.parameters())]
    return [*blocks[:-1], nn.ModuleList([blocks[-1], *tail])] if tail else list(blocks)


def load_kept(model: nn.Module, state: Mapping[str, Tensor], *, known: Iterable[str], name: str) -> None:
    """Load all that the pruned model has from a state dict of the whole one; nothing may be missing or unknown.

    Raises:
        CheckpointError: Names or shapes do not fit.
    """
    own = model.state_dict()
    misshapen = [
        f"{key} {tuple(state[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in own.items()
        if key in state and state[key].shape != tensor.shape
    ]
    complaint = complaints(
        missing=[key for key in own if key not in state],
        unexpected=sorted(set(state) - set(known)),
        misshapen=misshapen,
    )
    if complaint:
        raise CheckpointError(f"weights {name!r} do not fit the encoder: {complaint}; check architecture and weights")
    model.load_state_dict({key: state[key] for key in own})


def complaints(*, missing: Sequence[str], unexpected: Sequence[str], misshapen: Sequence[str]) -> str:
    """Say in a few words which tensors do not fit; nothing where all do."""
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    return "; ".join(_few(keys, what) for what, keys in kinds.items() if keys)


def _few(keys: Sequence[str], what: str) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{len(keys)} {what} ({', '.join(keys[:3])}{more})"


def layer_index(layer: int, *, layers: int, name: str) -> int:
    """Count a layer from the front.

    Raises:
        ConfigError: There is no such layer.
    """
    if not -layers <= layer < layers:
        raise ConfigError(f"layer {layer} of {name} does not exist; expected {-layers} to {layers - 1}")
    return layer % layers


def check_size(size: int, *, patch: int) -> None:
    """Refuse a size whose last pixels would fall off the grid of patches.

    Raises:
        ConfigError: The size is no multiple of the patch size.
    """
    if size % patch:
        raise ConfigError(
            f"images of size {size} do not divide into patches of {patch}; set size: {size - size % patch}"
        )


def image_transform(settings: Mapping[str, Any], *, size: int, fill: Fill) -> ImageTransform:
    """Read mean, std and interpolation from a library's settings."""
    mean, std = _colour(settings["mean"]), _colour(settings["std"])
    interpolation: Interpolation = "bilinear" if settings.get("interpolation") == "bilinear" else "bicubic"
    black = (0.0, 0.0, 0.0)
    bars = mean if fill == "mean" else black
    return ImageTransform(size=size, mean=mean, std=std, interpolation=interpolation, fill=bars)


def _colour(values: Iterable[float]) -> Colour:
    red, green, blue = map(float, values)
    return red, green, blue
