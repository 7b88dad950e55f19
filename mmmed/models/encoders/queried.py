"""An image encoder together with a Q-Former that is already trained: what MiniGPT-4 and its kin keep frozen.

Letters in tensor names: B batch, C colours (3), H and W pixels; in ``features_BNW``, N tokens per image and W the width
of the features; Q queries, D width of the Q-Former.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmmed.errors import CheckpointError
from mmmed.models.encoders.fused import refuse_kept
from mmmed.models.qformer_network import QFormer
from mmmed.models.vision import VisionEncoder, load_kept
from mmmed.models.weights import resolve

# Where BLIP-2 in transformers keeps each part; the rest of such a checkpoint is its encoder and language model.
_PARTS = {"query_tokens": "query_tokens", "qformer.": "qformer.", "vision_model.post_layernorm.": "norm."}


class QueriedEncoder(VisionEncoder):
    """Image features are what the queries of a Q-Former have read from an encoder's.

    It is for a Q-Former that stays as it is while a `LinearProjector` learns behind it. One that learns is a projector
    (`mmmed.models.qformer.QFormerProjector`).

    Shapes: (B, C, H, W) to (B, Q, D). Parameters beyond the encoder's: 2 · W for the norm between, and those of
    `QFormerProjector` without its way out.

    Args:
        encoder: Its features are normalised and read; BLIP-2's keeps its class token (``select: cls_patch``).
        weights: Reference of a folder or hub repository of BLIP-2, of which the queries, the Q-Former and the norm
            before it are taken; null for random ones.
        queries: Q, the tokens that come out.
        width: D.
        layers: Layers.
        heads: Heads of every attention.
        every: 2 lets the queries look at the image in every second layer.

    Raises:
        ConfigError: The heads do not divide the width, or the encoder's features are kept on disk.
        WeightsError: The weights cannot be resolved.
        CheckpointError: They do not fit.

    Source: Zhu et al., MiniGPT-4 (2023), section 3; Li et al., BLIP-2 (2023), section 3.1.
    """

    def __init__(
        self,
        encoder: VisionEncoder,
        *,
        weights: str | None,
        queries: int = 32,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        every: int = 2,
    ) -> None:
        super().__init__()
        refuse_kept(encoder, by="QueriedEncoder")
        self.encoder = encoder
        self.norm = nn.LayerNorm(encoder.width, eps=1e-6)
        self.query_tokens = nn.Parameter(torch.randn(1, queries, width) * 0.02)
        self.qformer = QFormer(
            width=width, context_width=encoder.width, layers=layers, heads=heads, every=every, text=False, dropout=0.0
        )
        self._rebuild = {"queries": queries, "width": width, "layers": layers, "heads": heads, "every": every}
        if weights is not None:
            state = _blip2_state(resolve(weights), name=weights)
            reader = nn.ModuleDict({"norm": self.norm, "qformer": self.qformer})
            reader.query_tokens = self.query_tokens
            load_kept(reader, state, known=reader.state_dict(), name=weights)
        self.finish(encoder.transform)

    def recipe(self) -> dict[str, Any]:
        arguments = {"encoder": self.encoder.recipe(), "weights": None, **self._rebuild}
        return {"class_path": f"{__name__}.QueriedEncoder", "init_args": arguments}

    def blocks(self) -> list[nn.Module]:
        """Blocks of the encoder, and then the Q-Former with its queries, as one."""
        reader = nn.ModuleList([self.norm, self.qformer])
        reader.register_parameter("query_tokens", self.query_tokens)
        return [*self.encoder.blocks(), reader]

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Encode (B, 3, size, size) to features (B, queries, width)."""
        features_BNW = self.norm(self.encoder(pixels_BCHW))
        queries_BQD = self.query_tokens.expand(len(features_BNW), -1, -1)
        read_BQD: Tensor = self.qformer(queries_BQD, features_BNW, queries=queries_BQD.shape[1])
        return read_BQD


def _blip2_state(folder: Path, *, name: str) -> dict[str, Tensor]:
    """Read what belongs to the Q-Former out of the files of a BLIP-2, by our names.

    Raises:
        CheckpointError: There are no readable safetensors files.
    """
    state: dict[str, Tensor] = {}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"weights {name!r}: {folder} has no safetensors files; expected a folder of BLIP-2")
    try:
        for file in files:
            with safe_open(file, framework="pt") as content:
                for key in content.keys():  # noqa: SIM118 -- it is no mapping
                    part = next((part for part in _PARTS if key.startswith(part)), None)
                    if part is not None:
                        state[_PARTS[part] + key.removeprefix(part)] = content.get_tensor(key).float()
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"weights {name!r} cannot be read ({error}); fetch them again") from error
    return state
