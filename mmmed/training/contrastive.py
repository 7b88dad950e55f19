"""Contrastive objectives: an image and its own report attract each other, all other pairs of the batch repel.

Letters in tensor names: B pairs of this process, G pairs of all processes, E width of the shared space.

The vectors of all processes are gathered here, with their gradients, and open_clip's losses are given the whole
batch, as if there were one process: its own gathering neither gives exact gradients by default nor knows that two
pairs may have the same text, and it rests on functions that torch has deprecated.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, cast

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor, distributed
from torch.utils.checkpoint import checkpoint

from mmmed.errors import ConfigError, DataError
from mmmed.models.contrastive import ContrastiveModel
from mmmed.models.vlm import Batch
from mmmed.processing.pair import PairProcessor
from mmmed.records import Example


class ContrastiveLoss:
    """CLIP's or SigLIP's loss over the pairs of all processes, embedded chunk by chunk.

    With `chunk`, only one chunk's activations are in memory at a time: vectors are made without them, and when the
    loss has given each vector its gradient, each chunk runs again (with the same dropout) and passes it on. The
    gradient is that of the whole batch, for one more forward pass. Gradient accumulation does something else: there
    each step sees its own few negatives.

    Pairs with the same text, such as two normal reports, are positives of each other: in CLIP's loss the target is
    shared equally among them, in SigLIP's each is labelled as a match.

    Args:
        kind: `clip`, a softmax over the batch in both directions, or `siglip`, a yes or no for every pair.
        chunk: Pairs that are embedded at once; None takes the whole batch.

    Raises:
        ConfigError: An unknown kind, or a chunk below 1.

    Source: Radford et al. 2021, arXiv 2103.00020, figure 3 (clip); Zhai et al. 2023, arXiv 2303.15343, section 3.2
    (siglip); Gao et al. 2021, arXiv 2101.06983, section 3 (chunks with cached gradients); Yang et al. 2022, arXiv
    2204.03610, equation 3 (several positives).
    """

    def __init__(self, kind: Literal["clip", "siglip"] = "clip", chunk: int | None = None) -> None:
        if kind not in _LOSSES:
            raise ConfigError(f"contrastive loss {kind!r}; expected clip or siglip")
        if chunk is not None and chunk < 1:
            raise ConfigError(f"contrastive chunk is {chunk}; expected 1 or more pairs, or null for the whole batch")
        self.kind = kind
        self.chunk = chunk

    def prepare(self, processor: PairProcessor, examples: Iterable[Example]) -> None:
        """Look whether there is something to tell apart.

        Raises:
            DataError: All texts are the same.
        """
        texts = (example.reference.strip() for example in examples)
        first = next(texts, "")
        if all(text == first for text in texts):
            raise DataError("all texts are the same; contrastive training needs reports that differ")

    def loss(self, model: ContrastiveModel, batch: Batch) -> Tensor:
        """Mean over the pairs of all processes; every process is given the same."""
        images_BE = self._chunked(model, "vision", model.embed_images, batch.pixels_NCHW)
        texts_BE = self._chunked(model, "text", model.embed_texts, batch.ids_BT, batch.attention_BT)
        compare = _LOSSES[self.kind](same_texts(batch))
        with torch.autocast(images_BE.device.type, enabled=False):
            loss: Tensor = compare(gathered(images_BE), gathered(texts_BE), model.shared.scale, model.shared.bias)
        return loss

    def _chunked(self, model: ContrastiveModel, tower: str, embed: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        pairs = len(inputs[0])
        if self.chunk is None or self.chunk >= pairs:
            return embed(*inputs)
        chunks = zip(*(torch.split(tensor, self.chunk) for tensor in inputs), strict=True)
        if any(one.requires_grad for one in model.part(tower).parameters()):
            return torch.cat([checkpoint(embed, *chunk, use_reentrant=False) for chunk in chunks])
        # A frozen tower keeps no activations, so nothing would be saved by running it again.
        return torch.cat([embed(*chunk) for chunk in chunks])


class _Clip(ClipLoss):  # type: ignore[misc]
    """CLIP's loss with a target that is shared among the pairs of the same text."""

    def __init__(self, same_GG: Tensor) -> None:
        super().__init__()
        self.same_GG = same_GG

    def get_ground_truth(self, device: torch.device, num_logits: int) -> Tensor:
        return self.same_GG / self.same_GG.sum(1, keepdim=True)


class _SigLip(SigLipLoss):  # type: ignore[misc]
    """SigLIP's loss with a match wherever the text is the same."""

    def __init__(self, same_GG: Tensor) -> None:
        super().__init__()
        self.same_GG = same_GG

    def get_ground_truth(
        self, device: torch.device, dtype: torch.dtype, num_logits: int, negative_only: bool = False
    ) -> Tensor:
        return 2 * self.same_GG.to(dtype) - 1


_LOSSES: dict[str, Callable[[Tensor], Any]] = {"clip": _Clip, "siglip": _SigLip}


def same_texts(batch: Batch) -> Tensor:
    """Which pairs of all processes have the same text (G, G), true on the diagonal."""
    hashes_G = gathered(_hashes(batch))
    return hashes_G.unsqueeze(0) == hashes_G.unsqueeze(1)


def _hashes(batch: Batch) -> Tensor:
    """A number for each text (B,), equal for equal tokens: texts of different length cannot be gathered as they are.

    A polynomial modulo 2**64; that two of 32,768 different texts are taken for the same has a chance of 1 in 10**10.
    """
    hashes_B = torch.zeros(len(batch.ids_BT), dtype=torch.long, device=batch.ids_BT.device)
    for ids_B, attention_B in zip(batch.ids_BT.T, batch.attention_BT.T, strict=True):
        hashes_B = torch.where(attention_B.bool(), hashes_B * _FACTOR + ids_B + 1, hashes_B)
    return hashes_B


_FACTOR = 6364136223846793005  # Knuth's multiplier of the linear congruential generator MMIX


def gathered(tensor_BX: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks; gradients go back to the process each row is from."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return tensor_BX
    return cast(Tensor, _Gathered.apply(tensor_BX))


class _Gathered(torch.autograd.Function):
    """Gathers rows. Every process takes the same loss of them, so gradients are summed, as DDP then divides them."""

    @staticmethod
    def forward(ctx: Any, tensor_BX: Tensor) -> Tensor:
        ctx.rows = len(tensor_BX)
        parts = [torch.empty_like(tensor_BX) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, tensor_BX.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient_GX,) = gradients
        summed_GX = gradient_GX.contiguous().clone()
        distributed.all_reduce(summed_GX)
        start = distributed.get_rank() * int(ctx.rows)
        return summed_GX[start : start + int(ctx.rows)]
