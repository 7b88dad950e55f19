"""The page on projectors counts what the classes have."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mmmed.models.projector import projected_tokens

PAGE = (Path(__file__).parents[1] / "docs" / "projectors.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+\.\w+)`([^|]*)\|[^|]*\| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.MULTILINE)
W, L, N = 6, 10, 16
MLP = {"pool": 2, "hidden": 7, "layers": 3}
QFORMER = {"queries": 5, "width": 8, "layers": 3, "heads": 2}
# Arguments of each row's class, and the letters of the page that they are.
MADE: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "LinearProjector": ({"pool": 2}, {"p": 2}),
    "MLPProjector": (MLP, {"p": 2, "H": 7, "n": 3}),
    "WordProjector": (MLP, {"p": 2, "H": 7, "n": 3}),
    "PixelShuffle": ({"factor": 4}, {"f": 4}),
    "PerceiverResampler": (
        {"latents": 5, "depth": 2, "heads": 4, "head_width": 3, "key_value_heads": 2, "hidden": 7},
        {"K": 5, "d": 2, "h": 4, "C": 3, "g": 2, "M": 7},
    ),
    "QFormerProjector": (QFORMER, {"Q": 5, "D": 8, "n": 3, "c": 2}),
    "QFormerProjector with a vocabulary": (
        QFORMER | {"vocabulary": 20, "positions": 9, "shared": 3},
        {"Q": 5, "D": 8, "n": 3, "c": 2, "V": 20, "T": 9, "P": 3},
    ),
    "ExpertsProjector": (MLP | {"experts": 3}, {"p": 2, "H": 7, "n": 3, "E": 3}),
    "GatedCrossAttention": (
        {"every": 2, "heads": 2, "head_width": 3, "hidden": 7},
        {"b": 2, "h": 2, "C": 3, "M": 7},
    ),
}


def made(path: str, more: str) -> tuple[nn.Module, dict[str, int]]:
    module, _, name = path.rpartition(".")
    settings, letters = MADE[f"{name}{more}".strip()]
    kind = getattr(import_module(f"mmmed.models.{module}"), name)
    # Gated cross-attention is made from the language width and the number of decoder layers.
    widths = (L, 3) if name == "GatedCrossAttention" else (W, L)
    return kind(*widths, **settings), letters | {"W": W, "L": L, "N": N}


def test_the_page_has_a_row_for_each_projector() -> None:
    assert [f"{path.rpartition('.')[2]}{more}".strip() for path, more, *_ in ROWS] == list(MADE)


@pytest.mark.parametrize(("path", "more", "tokens", "parameters"), ROWS, ids=[f"{row[0]}{row[1]}" for row in ROWS])
def test_the_counts_of_the_page_are_those_of_the_class(path: str, more: str, tokens: str, parameters: str) -> None:
    projector, letters = made(path, more)
    assert eval(parameters, {}, letters) == sum(one.numel() for one in projector.parameters())
    if "cross_attention" not in path:
        assert eval(tokens, {}, letters) == projected_tokens(projector, tokens=N, width=W)
