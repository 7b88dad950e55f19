"""The Q-Former is that of BLIP-2 and InstructBLIP, and who sees whom is what each task asks for."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import Blip2Config, Blip2QFormerConfig, InstructBlipQFormerConfig
from transformers.models.blip_2.modeling_blip_2 import Blip2ForImageTextRetrieval, Blip2QFormerModel
from transformers.models.instructblip.modeling_instructblip import InstructBlipQFormerModel

from mmmed.errors import ConfigError
from mmmed.models.projector import projected_tokens
from mmmed.models.qformer import QFormerProjector
from mmmed.models.qformer_network import QFormer, sight_mask

THEIRS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "encoder_hidden_size": 12,
    "cross_attention_frequency": 2,
    "vocab_size": 22,
    "max_position_embeddings": 9,
}
OURS: dict[str, Any] = {"queries": 5, "width": 16, "layers": 3, "heads": 4}
TEXT: dict[str, Any] = {"vocabulary": 20, "positions": 9, "shared": 8}
CLOSE = {"atol": 1e-4, "rtol": 0}


def strong(module: nn.Module) -> nn.Module:
    """Weights large enough for a wrong order of things to show."""
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.eval()


def attention() -> torch.Tensor:
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[1, 4:] = 0
    return mask


@torch.no_grad()
def test_the_queries_read_an_image_as_in_blip2() -> None:
    theirs = strong(Blip2QFormerModel(Blip2QFormerConfig(**THEIRS)))
    ours = QFormerProjector(12, 10, **OURS).eval()
    ours.qformer.load_state_dict(theirs.state_dict())
    features = torch.randn(2, 7, 12)
    expected = theirs(query_embeds=ours.query_tokens.expand(2, -1, -1), encoder_hidden_states=features)
    torch.testing.assert_close(ours(features), ours.language_projection(expected.last_hidden_state), **CLOSE)
    assert expected.last_hidden_state.std() > 0.1


@torch.no_grad()
def test_queries_and_an_instruction_read_an_image_as_in_instructblip() -> None:
    theirs = strong(InstructBlipQFormerModel(InstructBlipQFormerConfig(**THEIRS)))
    ours = QFormer(width=16, context_width=12, layers=3, heads=4, every=2, text=True, dropout=0.0).eval()
    state = {key.removeprefix("embeddings."): value for key, value in theirs.state_dict().items()}
    ours.load_state_dict({key: value for key, value in state.items() if not key.endswith("_embeddings.weight")})
    queries, features, ids = torch.randn(2, 5, 16), torch.randn(2, 7, 12), torch.randint(20, (2, 6))
    whole = torch.cat([torch.ones(2, 5, dtype=torch.long), attention()], dim=1)
    expected = theirs(ids, attention_mask=whole, query_embeds=queries, encoder_hidden_states=features)
    words = theirs.embeddings.word_embeddings(ids) + theirs.embeddings.position_embeddings(torch.arange(6))
    said = ours(
        torch.cat([queries, words], dim=1),
        features,
        queries=5,
        allowed=sight_mask("together", queries=5, attention_BT=attention()),
    )
    torch.testing.assert_close(said[whole.bool()], expected.last_hidden_state[whole.bool()], **CLOSE)


@torch.no_grad()
def test_similarity_and_matching_are_those_of_blip2() -> None:
    vision = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = Blip2Config(
        vision_config=vision | {"image_size": 8, "patch_size": 4},
        qformer_config=THEIRS | {"use_qformer_text_input": True},
        text_config={"model_type": "opt", "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 20},
        num_query_tokens=5,
        image_text_hidden_size=8,
        image_token_index=None,
    )
    theirs = strong(Blip2ForImageTextRetrieval(config))
    ours = QFormerProjector(12, 10, **OURS, **TEXT).eval()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("vision_model.")}
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.startswith(("language_projection", "caption_", "temperature")) for key in missing)
    pixels, ids = torch.randn(2, 3, 8, 8), torch.randint(20, (2, 6))
    features = theirs.vision_model(pixels).last_hidden_state
    given = {"pixel_values": pixels, "input_ids": ids, "attention_mask": attention()}
    similarity = ours.similarity(ours.read(features, ids, attention(), sight="apart"))
    torch.testing.assert_close(similarity, theirs(**given).logits_per_image, **CLOSE)
    matching = ours.match_logits(ours.read(features, ids, attention(), sight="together"))
    expected = theirs(**given, use_image_text_matching_head=True).logits_per_image
    torch.testing.assert_close(matching, expected, **CLOSE)
    assert expected.std() > 0.1


def test_each_task_has_the_mask_of_the_paper() -> None:
    there = torch.tensor([[1, 1, 0]])
    drawn = {sight: sight_mask(sight, queries=2, attention_BT=there)[0, 0].int() for sight in SIGHTS}
    assert drawn["apart"].tolist() == [[1, 1, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 0]] * 3
    assert drawn["together"].tolist() == [[1, 1, 1, 1, 0]] * 5
    assert drawn["captioning"].tolist() == [
        *[[1, 1, 0, 0, 0]] * 2,
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
    ]


SIGHTS = ("apart", "together", "captioning")


@torch.no_grad()
@pytest.mark.parametrize(
    ("sight", "queries_notice_text", "early_words_notice_late", "text_notices_image"),
    [("apart", False, True, False), ("together", True, True, True), ("captioning", False, False, True)],
)
def test_what_is_hidden_changes_nothing_and_what_is_seen_does(
    sight: Any, queries_notice_text: bool, early_words_notice_late: bool, text_notices_image: bool
) -> None:
    projector = strong(QFormerProjector(12, 10, **OURS, **TEXT))
    features, ids, there = torch.randn(1, 7, 12), torch.tensor([[3, 1, 4, 1]]), torch.ones(1, 4, dtype=torch.long)
    plain = projector.read(features, ids, there, sight=sight)
    other_end = projector.read(features, torch.tensor([[3, 1, 4, 9]]), there, sight=sight)
    other_image = projector.read(-features, ids, there, sight=sight)

    def changed(first: torch.Tensor, second: torch.Tensor) -> bool:
        return not torch.allclose(first, second, atol=1e-5)

    assert changed(plain.queries_BQD, other_end.queries_BQD) == queries_notice_text
    assert changed(plain.text_BTD[:, :3], other_end.text_BTD[:, :3]) == early_words_notice_late
    assert changed(plain.text_BTD, other_image.text_BTD) == text_notices_image
    assert changed(plain.text_BTD[:, 3:], other_end.text_BTD[:, 3:])
    assert changed(plain.queries_BQD, other_image.queries_BQD)


def test_the_tokens_are_as_many_for_any_image_and_read_alike_with_and_without_text_parameters() -> None:
    projector = QFormerProjector(12, 10, **OURS, **TEXT).eval()
    assert [projected_tokens(projector, tokens=tokens, width=12) for tokens in (1, 50)] == [5, 5]
    plain = QFormerProjector(12, 10, **OURS).eval()
    state = projector.state_dict()
    plain.load_state_dict({key: state[key] for key in plain.state_dict()})
    features = torch.randn(2, 7, 12)
    torch.testing.assert_close(plain(features), projector(features))


@pytest.mark.parametrize(
    ("settings", "ids", "message"),
    [
        ({}, [[1]], "reads no text"),
        (TEXT, [[1] * 10], "a text of 10 tokens for 9 positions"),
        (TEXT, [[22]], "token id 22 is beyond vocabulary 20"),
    ],
)
def test_text_that_cannot_be_read_is_refused(settings: dict[str, Any], ids: list[list[int]], message: str) -> None:
    projector = QFormerProjector(12, 10, **OURS, **settings)
    given = torch.tensor(ids)
    with pytest.raises(ConfigError, match=message):
        projector.read(torch.randn(1, 7, 12), given, torch.ones_like(given), sight="apart")


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 heads do not divide width 16"):
        QFormerProjector(12, 10, **OURS | {"heads": 3})
