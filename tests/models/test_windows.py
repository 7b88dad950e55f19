"""A window is counted over tokens, wherever padding stands."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmmed.models.vlm import VisionLanguageModel
from mmmed.models.windows import in_window, window_of

MakeModel = Callable[..., VisionLanguageModel]
SLIDING: dict[str, dict[str, Any]] = {
    "some layers": {"model_type": "gemma3_text", "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "all layers": {"model_type": "mistral"},
}


@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("settings", SLIDING.values(), ids=SLIDING.keys())
@torch.no_grad()
def test_what_is_read_behind_padding_sees_as_many_tokens_as_without(
    make_model: MakeModel, settings: dict[str, Any], attention: str | None
) -> None:
    model = make_model(vision=False, initializer_range=0.3, attention=attention, sliding_window=6, **settings)
    language = model.language
    long, short = torch.arange(20, 29), torch.arange(40, 44)
    then = torch.tensor([[60, 61, 62], [70, 71, 72]])
    alone = [
        language(language.embed(torch.cat(two)[None]), None)[0, -3:] for two in zip((long, short), then, strict=True)
    ]
    ids_BT = torch.stack([long, torch.cat([short, torch.zeros(5, dtype=torch.long)])])
    seen_BT = torch.ones(2, 9, dtype=torch.long)
    seen_BT[1, 4:] = 0
    cache = model.new_cache()
    language(language.embed(ids_BT), seen_BT, cache=cache)
    attention_BT = torch.cat([seen_BT, torch.ones(2, 3, dtype=torch.long)], dim=1)
    hidden_BTD = language(language.embed(then), attention_BT, cache=cache)
    for row, expected in enumerate(alone):
        torch.testing.assert_close(hidden_BTD[row], expected, atol=1e-5, rtol=0)


def test_masks_are_made_only_where_padding_stands_between_tokens(make_model: MakeModel) -> None:
    language: Any = make_model(model_type="mistral", sliding_window=3).language
    config = language.model.config
    positions_BT = torch.tensor([[4]])
    for places in ([1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1]):
        given = torch.tensor([places])
        assert in_window(config, given, positions_BT, dtype=torch.float32) is given
    made = in_window(config, torch.tensor([[1, 1, 1, 0, 1]]), torch.tensor([[3]]), dtype=torch.float32)
    assert made.tolist() == [[[[False, True, True, False, True]]]]
    config._attn_implementation = "flash_attention_2"  # it leaves padding out before it counts
    holes = torch.tensor([[1, 1, 1, 0, 1]])
    assert in_window(config, holes, torch.tensor([[3]]), dtype=torch.float32) is holes


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({"model_type": "mistral", "sliding_window": 9}, 9),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "llama"}, None),
        (
            {"model_type": "gemma3_text", "head_dim": 8, "sliding_window": 9, "layer_types": ["full_attention"] * 2},
            None,
        ),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}, 9),
        ({"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 9}, None),
    ],
)
def test_the_window_is_that_of_layers_that_have_one(
    make_model: MakeModel, settings: dict[str, Any], window: int | None
) -> None:
    language: Any = make_model(**settings).language
    assert window_of(language.model.config) == window
