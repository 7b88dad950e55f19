"""Text looks at the images before it and at no others; a fresh model is the language model; caches change nothing."""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import auto_cli
from torch import nn
from transformers import IdeficsConfig
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer

from mmmed.data.collate import pad
from mmmed.errors import ConfigError, RecordError
from mmmed.inference.scoring import score_options
from mmmed.inference.session import Session
from mmmed.models.cross_attention import (
    Attend,
    GatedCrossAttention,
    GatedCrossAttentionBlock,
    visible,
    visual_context,
)
from mmmed.models.folder import load, save
from mmmed.models.fusion import splice
from mmmed.models.perceiver import PerceiverResampler
from mmmed.models.upcycling import SparseLanguageModel
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import ModelInput, Processor
from mmmed.records import Example
from mmmed.training.objectives import AnswerLoss, VocabularyLoss

MakeModel = Callable[..., VisionLanguageModel]
MakeProcessor = Callable[..., Processor]
RESAMPLER = partial(PerceiverResampler, latents=3, depth=1, heads=2, head_width=8, key_value_heads=2)
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {"model_type": "gpt_neox"},
}


@pytest.fixture
def make_gated(make_model: MakeModel) -> Callable[..., VisionLanguageModel]:
    """Makes tiny models that look at their images; with `opened`, the gates are open and the weights large."""

    def make(*, opened: bool = True, attend: Attend = "last", **settings: Any) -> VisionLanguageModel:
        plain = make_model(initializer_range=0.3, **settings)
        blocks = partial(GatedCrossAttention, every=1, heads=2, head_width=16, attend=attend)
        model = VisionLanguageModel(plain.language, plain.vision, RESAMPLER, blocks).eval()
        if opened:
            torch.manual_seed(7)
            for parameter in [*model.cross_attention.parameters(), *model.projector.parameters()]:
                nn.init.normal_(parameter, std=0.4)
        return model

    return make


def batch_of(processor: Processor, examples: Sequence[Example], *, left: bool = False) -> Batch:
    make = processor.question if left else processor.training
    return pad([make(example) for example in examples], image_id=processor.image_id, left=left)


@torch.no_grad()
def test_a_block_equals_that_of_idefics_on_the_same_weights() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4}
    config = IdeficsConfig(**sizes, vision_config={"embed_dim": 16}, attn_implementation="eager")
    theirs = IdeficsGatedCrossAttentionLayer(config, layer_idx=0).eval()
    ours = GatedCrossAttentionBlock(16, heads=4, head_width=4, hidden=24, epsilon=config.rms_norm_eps)
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    text, images = torch.randn(2, 5, 16), torch.randn(2, 2, 3, 16)
    sees = visible(torch.tensor([[0, 0, 1, 1, 2], [1, 1, 1, 1, 1]]), 2, "last")
    allowed = sees.repeat_interleave(3, dim=-1)
    expected = theirs(
        text,
        image_hidden_states=images.flatten(1, 2),
        image_attention_mask=torch.zeros(allowed.shape).masked_fill(~allowed, -1e9)[:, None],
        cross_attention_gate=sees.any(-1).float(),
    )
    torch.testing.assert_close(ours(text, images.flatten(1, 2), sees, 3), expected, atol=1e-4, rtol=0)
    assert (expected - text).std() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_fresh_model_says_exactly_what_the_language_model_says(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example], family: str
) -> None:
    model = make_gated(opened=False, **FAMILIES[family])
    assert model.tokens_per_image == 1
    batch = batch_of(make_processor(model), examples)
    words = model.language.embed(batch.ids_BT)
    marked = splice(words, model.cross_attention.marker.expand(len(batch.pixels_NCHW), 1, -1), batch.is_image_BT)
    assert torch.equal(model.read(batch), model.language(marked, batch.attention_BT))
    model.cross_attention.blocks[0].alpha_cross_attn.fill_(0.5)
    assert not torch.allclose(model.read(batch), model.language(marked, batch.attention_BT), atol=1e-4)


@torch.no_grad()
def test_text_sees_the_last_image_before_it_or_all_of_them() -> None:
    """Against one softmax per place, over the tokens of the images that this place may see."""
    torch.manual_seed(0)
    block = GatedCrossAttentionBlock(8, heads=1, head_width=8, hidden=8, epsilon=1e-6)
    block.alpha_cross_attn.fill_(0.7)
    is_image = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 1, 0]]).bool()
    features, text = torch.randn(3, 2, 8), torch.randn(2, 5, 8)
    context = visual_context(features, is_image)
    # Which of the three images each place of each text sees.
    seen = {
        "last": [[[], [0], [0], [1], [1]], [[], [], [], [2], [2]]],
        "all": [[[], [0], [0], [0, 1], [0, 1]], [[], [], [], [2], [2]]],
    }
    for attend, rows in seen.items():
        sees = visible(context.begun_BT, 2, attend)
        said = block(text, context.features_BIKD.flatten(1, 2), sees, 2)
        for row, places in enumerate(rows):
            for place, images in enumerate(places):
                asks = text[row, place]
                read = torch.zeros(8)
                if images:
                    tokens = features[images].flatten(0, 1)
                    query, attention = block.cross_attn.q_proj(block.input_layernorm(asks)), block.cross_attn
                    likelihoods = (attention.k_proj(tokens) @ query / 8**0.5).softmax(0)
                    read = attention.o_proj(likelihoods @ attention.v_proj(tokens))
                expected = asks + torch.tensor(0.7).tanh() * read  # the second gate is closed
                torch.testing.assert_close(said[row, place], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attend", ["last", "all"])
@torch.no_grad()
def test_an_image_changes_what_stands_behind_it_and_nothing_before(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example], attend: Attend
) -> None:
    model = make_gated(attend=attend)
    batch = batch_of(make_processor(model), [examples[2], examples[0], examples[4]])  # two images, one, none
    first, second = batch.is_image_BT[0].nonzero()[:, 0].tolist()
    for number, place in enumerate((first, second)):
        pixels = batch.pixels_NCHW.clone()
        pixels[number] = -pixels[number]
        change = (model.read(replace(batch, pixels_NCHW=pixels)) - model.read(batch)).abs().amax(-1)
        assert change[0, :place].max() == change[1:].max() == 0
        assert change[0, place:][batch.attention_BT[0, place:].bool()].min() > 1e-5


@torch.no_grad()
def test_an_answer_does_not_depend_on_its_neighbours_in_the_batch(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example]
) -> None:
    model = make_gated()
    processor = make_processor(model)
    together = model.read(batch_of(processor, examples))
    for row, example in enumerate(examples):
        alone = model.read(batch_of(processor, [example]))[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_equal_reading_everything_anew_for_each_token(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example], family: str
) -> None:
    model = make_gated(**FAMILIES[family])
    processor = make_processor(model)
    asked = [examples[0], examples[2], examples[4]]
    answers = model.generate(batch_of(processor, asked, left=True), max_new_tokens=5)
    for example, answer in zip(asked, answers, strict=True):
        question = processor.question(example)
        ids = question.ids
        for token in answer.tolist():
            if token == processor.prompt.tokenizer.pad_token_id:
                break
            whole = ModelInput("", ids, torch.zeros_like(ids, dtype=torch.bool), question.pixels)
            with torch.no_grad():
                assert int(model(pad([whole], image_id=processor.image_id))[0, -1].argmax()) == token
            ids = torch.cat([ids, torch.tensor([token])])


@pytest.mark.parametrize("attend", ["last", "all"])
def test_likelihoods_from_shared_prefixes_equal_those_of_whole_sequences(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example], attend: Attend
) -> None:
    model = make_gated(attend=attend)
    processor = make_processor(model)
    closed = [example for example in examples if example.options]
    for example, likelihoods in zip(closed, score_options(model, processor, closed), strict=True):
        for option, value in zip(example.options, likelihoods.values, strict=True):
            asked, said = processor.question(example), torch.tensor(processor.answer_ids(example, option))
            ids = torch.cat([asked.ids, said])
            whole = ModelInput("", ids, torch.zeros_like(ids, dtype=torch.bool), asked.pixels)
            with torch.no_grad():
                words = model(pad([whole], image_id=processor.image_id))[0].log_softmax(-1)
            places = torch.arange(len(asked.ids) - 1, len(ids) - 1)
            assert value == pytest.approx(float(words[places, said].sum()), abs=1e-4), example.id


def test_it_is_saved_and_opened_and_answers_the_same(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example], tmp_path: Path
) -> None:
    model = make_gated(attend="all")
    save(model, tmp_path / "model", settings={}, provenance={})
    opened = load(tmp_path / "model").model
    assert opened.recipe() == model.recipe()
    first, second = (Session(one, make_processor(one)).write(examples, max_new_tokens=4) for one in (model, opened))
    assert first == second


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_answers_teach_blocks_and_resampler_through_a_frozen_language_model(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example], checkpointing: bool
) -> None:
    model = make_gated()
    batch = batch_of(make_processor(model), examples)
    expected = gradients(model, batch)
    if checkpointing:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # renamed in transformers 5.2x
            model.language.model.gradient_checkpointing_enable({"use_reentrant": False})
        model.language.train()
    found = gradients(model, batch)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)
    assert {name.split(".")[0] for name in found} == {"projector", "cross_attention"}


def gradients(model: VisionLanguageModel, batch: Batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for part in ("vision", "language"):
        model.part(part).requires_grad_(False)
    AnswerLoss().loss(model, batch).backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.requires_grad}


def test_the_language_model_is_left_as_it_was(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example]
) -> None:
    model = make_gated()
    batch = batch_of(make_processor(model), examples)
    with pytest.raises(RecordError, match="6 image places in the text for 3 images"):
        model(replace(batch, pixels_NCHW=batch.pixels_NCHW[:3]))
    model(batch)
    assert not any(module._forward_pre_hooks for module in model.language.modules())


def test_an_objective_that_needs_images_in_the_sequence_is_refused(
    make_gated: MakeModel, make_processor: MakeProcessor, examples: list[Example]
) -> None:
    model = make_gated()
    with pytest.raises(ConfigError, match="looks at its images through cross_attention"):
        VocabularyLoss().loss(model, batch_of(make_processor(model), examples))


def test_cross_attention_without_eyes_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match="cross_attention looks at images"):
        VisionLanguageModel(make_model().language, None, None, GatedCrossAttention)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"every": 0}, "before every 0-th layer"), ({"attend": "first"}, "attend: last or all")],
)
def test_blocks_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GatedCrossAttention(8, 2, **settings)


def test_yaml_names_each_part_and_the_model_fills_in_the_widths(make_model: MakeModel, tokenizer_folder: Path) -> None:
    plain = make_model()
    language, vision = plain.language.recipe(), plain.vision.recipe()
    language["init_args"] = {
        "weights": None,
        "config": LLAMA | {"vocab_size": 420},
        "tokenizer": str(tokenizer_folder),
        "experts": 2,
        "top_k": 1,
    }
    values = {
        "language": language | {"class_path": "mmmed.models.upcycling.SparseLanguageModel"},
        "vision": vision,
        "projector": {"class_path": "mmmed.models.perceiver.PerceiverResampler", "init_args": {"latents": 3}},
        "cross_attention": {
            "class_path": "mmmed.models.cross_attention.GatedCrossAttention",
            "init_args": {"every": 2, "attend": "all"},
        },
    }

    def build(model: VisionLanguageModel) -> VisionLanguageModel:
        return model

    value = {"class_path": "mmmed.models.vlm.VisionLanguageModel", "init_args": values}
    model = auto_cli(build, args=["--model", json.dumps(value)], as_positional=False)
    assert isinstance(model.language, SparseLanguageModel)
    assert len(model.language.model.model.layers[0].mlp.experts) == 2
    assert len(model.cross_attention.blocks) == 1
    assert model.cross_attention.recipe()["init_args"]["attend"] == "all"
