"""Images read beside the text instead of inside it: gated cross-attention between the layers of a language model.

Letters in tensor names: B batch, T tokens, D language width, N images of the batch, I images of an example at most,
K tokens per image.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mmmed.errors import ConfigError, RecordError
from mmmed.models.perceiver import Attention, GatedMLP
from mmmed.models.projector import projector_recipe

Attend = Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class VisualContext:
    """What the text of a batch can see.

    Args:
        features_BIKD: Image tokens of each example's images in reading order; zeros where it has fewer than I.
        begun_BT: How many of its example's images each token stands behind; an image's own place counts as behind.
    """

    features_BIKD: Tensor
    begun_BT: Tensor

    def select(self, rows: Tensor) -> "VisualContext":
        """The context of some examples, in the order asked for."""
        return VisualContext(self.features_BIKD[rows], self.begun_BT[rows])

    def after(self, tokens: int) -> "VisualContext":
        """The context of the text that follows, which stands behind all images."""
        return VisualContext(self.features_BIKD, self.begun_BT[:, -1:].expand(-1, tokens))


class VisualCache(DynamicCache):
    """Keys and values of a text, and the images that the rest of it still looks at."""

    visual: VisualContext | None = None

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.visual = self.visual.select(indices) if self.visual is not None else None


def visual_context(features_NKD: Tensor, is_image_BT: Tensor) -> VisualContext:
    """Give each example its images, whose places the mask marks with one token each.

    Raises:
        RecordError: The mask has another number of places than there are images.
    """
    begun_BT = is_image_BT.long().cumsum(1)
    places = is_image_BT.nonzero()
    if len(places) != len(features_NKD):
        raise RecordError(f"{len(places)} image places in the text for {len(features_NKD)} images; one per placeholder")
    rows_N, columns_N = places.unbind(1)
    images = max(1, int(begun_BT.max()))
    features_BIKD = features_NKD.new_zeros(len(is_image_BT), images, *features_NKD.shape[1:])
    numbers_N = begun_BT[rows_N, columns_N] - 1
    return VisualContext(features_BIKD.index_put((rows_N, numbers_N), features_NKD), begun_BT)


class GatedCrossAttention(nn.Module):
    """Blocks before every so-many-th layer of a language model through which its text looks at images.

    The language model itself is not touched, and its weights keep their names: the blocks are there only while
    `looking` is open. Each block adds ``tanh(gate)`` times what it read, and ``tanh(gate)`` times a feed-forward
    layer's output; the gates start at 0, so that a fresh model says exactly what the language model says. A token
    sees the last image before it, or all images before it; a token before the first image sees none. An image
    takes one place in the text, whose embedding is learned (`marker`).

    Shapes: text (B, T, D) and images (B, I, K, D) to (B, T, D). Parameters, for ceil(decoder layers / every) blocks
    with H heads of width C and hidden width M: 4 · D · H · C + 3 · D · M + 2 · D + 2 each, and D for the marker.

    Args:
        language_width: D, of the language model.
        decoder_layers: Layers of the language model.
        every: 4 puts a block before layers 0, 4, 8 ….
        heads: Of the cross-attention.
        head_width: Width of a head.
        hidden: Hidden width of the feed-forward layer; four times D unless given.
        attend: Whether a token sees the last image before it, as in Flamingo, or all of them, for studies of
            several views.
        epsilon: Of the norms.

    Raises:
        ConfigError: `every` is below 1, or `attend` unknown.

    Source: Alayrac et al., Flamingo (2022), sections 2.2 and 2.3. The block itself (root mean square norms, gated
    feed-forward layer, one gate number each) is that of IDEFICS, whose weights load as they are.
    """

    def __init__(
        self,
        language_width: int,
        decoder_layers: int,
        every: int = 4,
        heads: int = 8,
        head_width: int = 64,
        hidden: int | None = None,
        attend: Attend = "last",
        epsilon: float = 1e-6,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ConfigError(f"cross-attention before every {every}-th layer; expected 1 or more")
        if attend not in ("last", "all"):
            raise ConfigError(f"cross-attention to {attend!r} images; expected attend: last or all")
        self._rebuild = {
            "every": every,
            "heads": heads,
            "head_width": head_width,
            "hidden": hidden or 4 * language_width,
            "attend": attend,
            "epsilon": epsilon,
        }
        self.every, self.attend = every, attend
        self.marker = nn.Parameter(torch.randn(language_width) * 0.02)
        self.blocks = nn.ModuleList(
            GatedCrossAttentionBlock(
                language_width,
                heads=heads,
                head_width=head_width,
                hidden=hidden or 4 * language_width,
                epsilon=epsilon,
            )
            for _ in range(0, decoder_layers, every)
        )

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, to which language width and number of decoder layers are added."""
        return projector_recipe(self, **self._rebuild)

    @contextmanager
    def looking(self, layers: nn.ModuleList, context: VisualContext) -> Iterator[None]:
        """Put the blocks before a decoder's layers while it reads a text in this context, and what it generates."""
        with ExitStack() as stack:
            for layer, block in zip(list(layers)[:: self.every], self.blocks, strict=True):
                handle = layer.register_forward_pre_hook(partial(self._before, block, context), with_kwargs=True)
                stack.callback(handle.remove)
            yield

    def _before(self, block: nn.Module, context: VisualContext, layer: nn.Module, args: Any, kwargs: Any) -> Any:
        hidden_BTD = args[0] if args else kwargs["hidden_states"]
        # After the first pass over the text, generation reads one new token at a time, behind all images.
        now = context if hidden_BTD.shape[1] == context.begun_BT.shape[1] else context.after(hidden_BTD.shape[1])
        images, tokens = context.features_BIKD.shape[1:3]
        read_BTD = block(
            hidden_BTD, now.features_BIKD.flatten(1, 2), visible(now.begun_BT, images, self.attend), tokens
        )
        return ((read_BTD, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": read_BTD})


def visible(begun_BT: Tensor, images: int, attend: Attend) -> Tensor:
    """Which of an example's images each token may see (B, T, I)."""
    numbers_I = torch.arange(1, images + 1, device=begun_BT.device)
    behind_BT1 = begun_BT.unsqueeze(-1)
    return numbers_I == behind_BT1 if attend == "last" else numbers_I <= behind_BT1


class GatedCrossAttentionBlock(nn.Module):
    """Cross-attention and a feed-forward layer, each behind a norm and a gate that starts closed."""

    def __init__(self, width: int, *, heads: int, head_width: int, hidden: int, epsilon: float) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(width, eps=epsilon)
        self.cross_attn = Attention(
            width, context_width=width, heads=heads, head_width=head_width, key_value_heads=heads
        )
        self.post_attention_layernorm = nn.RMSNorm(width, eps=epsilon)
        self.mlp = GatedMLP(width, hidden, width)
        self.alpha_cross_attn = nn.Parameter(torch.zeros(1))
        self.alpha_dense = nn.Parameter(torch.zeros(1))

    def forward(self, text_BTD: Tensor, seen_BSD: Tensor, visible_BTI: Tensor, tokens_per_image: int) -> Tensor:
        """Let the text look at the tokens of those of its images that are visible to it."""
        sees_BT1 = visible_BTI.any(-1, keepdim=True)
        # A token that sees nothing is let attend to anything, and what it read is zeroed: softmax needs a choice.
        allowed_BTS = (visible_BTI | ~sees_BT1).repeat_interleave(tokens_per_image, dim=-1)
        read_BTD = self.cross_attn(
            self.input_layernorm(text_BTD), seen_BSD.to(text_BTD.dtype), allowed=allowed_BTS.unsqueeze(1)
        )
        text_BTD = text_BTD + self.alpha_cross_attn.tanh() * read_BTD.where(sees_BT1, 0.0)
        gated_BTD: Tensor = self.alpha_dense.tanh() * self.mlp(self.post_attention_layernorm(text_BTD))
        return text_BTD + gated_BTD
