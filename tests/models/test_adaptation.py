"""An adapter learns alone, goes into the weights and out again, and comes back from its folder as it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from torch import Tensor

from mmmed.data.collate import pad
from mmmed.errors import CheckpointError, ConfigError
from mmmed.inference.scoring import score_options
from mmmed.models import adaptation
from mmmed.models.adaptation import is_adapter
from mmmed.models.folder import load, load_weights, save
from mmmed.models.language import CausalLanguageModel
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

MakeModel = Callable[..., VisionLanguageModel]

LORA = {"kind": "lora", "r": 2, "lora_dropout": 0.1}
DORA = {"kind": "dora", "r": 2}
QLORA = {"kind": "qlora", "r": 2}
IA3 = {"kind": "ia3"}
PROMPT = {"kind": "prompt", "tokens": 5}
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
FOUR_BITS = pytest.param(QLORA, marks=needs_bitsandbytes, id="qlora")
LAYERS = [LORA, DORA, FOUR_BITS, IA3]
ALL = [*LAYERS, PROMPT]
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 420, "n_positions": 64}


@pytest.fixture
def make_blind(make_model: MakeModel) -> MakeModel:
    """Makes tiny models without eyes, as wide as a block of 4-bit weights."""
    return partial(make_model, vision=False, hidden_size=64)


def kind(adapter: dict[str, Any]) -> str:
    return str(adapter["kind"])


def train(model: VisionLanguageModel) -> VisionLanguageModel:
    """Move every adapter away from where it begins, as training does."""
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def batch_of(model: VisionLanguageModel, examples: list[Example]) -> Batch:
    processor = Processor(model.language.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image)
    return pad([processor.training(example) for example in examples], image_id=processor.image_id)


@torch.no_grad()
def logits(model: VisionLanguageModel, examples: list[Example]) -> Tensor:
    batch = batch_of(model, examples)
    return model(batch)[batch.attention_BT.bool()]


@pytest.mark.parametrize("adapter", LAYERS, ids=kind)
def test_outputs_are_equal_before_and_after_merging(
    make_blind: MakeModel, examples: list[Example], adapter: dict[str, Any]
) -> None:
    fresh = make_blind(adapter=adapter)
    begins = logits(fresh, examples)
    model = train(fresh)
    before = logits(model, examples)
    assert (before - begins).abs().max() > 1e-3, "training changed the answers"
    model.language.merge()
    torch.testing.assert_close(logits(model, examples), before, atol=1e-5, rtol=0)
    assert not any(map(is_adapter, model.state_dict()))
    model.language.unmerge()
    torch.testing.assert_close(logits(model, examples), before, atol=1e-5, rtol=0)
    assert any(map(is_adapter, model.state_dict()))


@pytest.mark.parametrize("adapter", LAYERS, ids=kind)
def test_a_merged_model_is_saved_as_a_plain_one(
    make_blind: MakeModel, examples: list[Example], tmp_path: Path, adapter: dict[str, Any]
) -> None:
    model = train(make_blind(adapter=adapter))
    before = logits(model, examples)
    model.language.merge()
    save(model, tmp_path / "model", settings={}, provenance={})
    opened = load(tmp_path / "model").model
    assert opened.recipe()["language"]["init_args"]["adapter"] is None
    torch.testing.assert_close(logits(opened, examples), before, atol=1e-5, rtol=0)
    plain = make_blind(seed=8)
    load_weights(plain, tmp_path / "model")
    torch.testing.assert_close(logits(plain, examples), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("adapter", ALL, ids=kind)
def test_an_adapted_model_comes_back_from_its_folder_to_the_last_bit(
    make_blind: MakeModel, examples: list[Example], tmp_path: Path, adapter: dict[str, Any]
) -> None:
    model = train(make_blind(adapter=adapter))
    save(model, tmp_path / "model", settings={}, provenance={})
    torch.manual_seed(11)
    opened = load(tmp_path / "model").model
    again = make_blind(seed=9, adapter=adapter)
    load_weights(again, tmp_path / "model")
    for other in (opened, again):
        state = other.state_dict()
        assert state.keys() == model.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
        assert torch.equal(logits(other, examples), logits(model, examples))


@pytest.mark.parametrize("adapter", [LORA, DORA, IA3], ids=kind)
def test_fresh_adapters_on_the_weights_of_a_folder_change_nothing(
    make_blind: MakeModel, examples: list[Example], tmp_path: Path, adapter: dict[str, Any]
) -> None:
    trained = make_blind(seed=1)
    save(trained, tmp_path / "model", settings={}, provenance={})
    adapted = make_blind(seed=2, adapter=adapter)
    load_weights(adapted, tmp_path / "model")
    torch.testing.assert_close(logits(adapted, examples), logits(trained, examples), atol=1e-5, rtol=0)


@needs_bitsandbytes
def test_plain_weights_go_into_four_bits_as_if_they_had_been_there_from_the_start(
    make_blind: MakeModel, examples: list[Example], tmp_path: Path
) -> None:
    save(make_blind(seed=1), tmp_path / "model", settings={}, provenance={})
    filled = make_blind(seed=2, adapter=QLORA)
    load_weights(filled, tmp_path / "model")
    from_the_start = make_blind(seed=1, adapter=QLORA)
    torch.testing.assert_close(logits(filled, examples), logits(from_the_start, examples), atol=1e-6, rtol=0)
    state = filled.language.state_dict()
    assert state["model.model.layers.0.mlp.up_proj.base_layer.weight"].dtype == torch.uint8
    assert state["model.lm_head.weight"].dtype == torch.float32


@needs_bitsandbytes
def test_four_bits_hold_the_weights_to_their_precision(make_blind: MakeModel) -> None:
    plain, small = make_blind(seed=1), make_blind(seed=1, adapter=QLORA)
    small.language.merge()
    ours = small.language.model.model.layers[0].mlp.up_proj.weight
    theirs = plain.language.model.model.layers[0].mlp.up_proj.weight
    error = (ours - theirs).abs().mean() / theirs.abs().mean()
    assert 0.01 < error < 0.15


@pytest.mark.parametrize(
    ("saved", "given"),
    [
        (LORA, LORA | {"r": 4}),
        (LORA, IA3),
        (LORA, DORA),
        (LORA, None),
        (LORA | {"target_modules": ["q_proj"]}, LORA),
        (PROMPT, PROMPT | {"tokens": 6}),
        (PROMPT, LORA),
        pytest.param(QLORA, LORA, marks=needs_bitsandbytes),
    ],
    ids=str,
)
def test_an_adapter_that_is_not_the_models_own_is_refused(
    make_blind: MakeModel, tmp_path: Path, saved: dict[str, Any], given: dict[str, Any] | None
) -> None:
    save(make_blind(adapter=saved), tmp_path / "model", settings={}, provenance={})
    with pytest.raises(CheckpointError, match=r"another architecture: \d+ tensors do not fit"):
        load_weights(make_blind(adapter=given), tmp_path / "model")


@pytest.mark.parametrize("adapter", ALL, ids=kind)
def test_without_its_adapter_a_model_is_what_it_was(
    make_blind: MakeModel, examples: list[Example], adapter: dict[str, Any]
) -> None:
    plain = make_blind(adapter=adapter)
    if kind(adapter) == "qlora":
        plain.language.merge()  # what was adapted is in 4 bits
    elif kind(adapter) == "prompt":
        plain = make_blind()
    model = train(make_blind(adapter=adapter))
    learning = {name for name, one in model.named_parameters() if one.requires_grad}
    trained = logits(model, examples)
    with model.language.without_adapter():
        torch.testing.assert_close(logits(model, examples), logits(plain, examples), atol=1e-5, rtol=0)
    assert torch.equal(logits(model, examples), trained)
    assert {name for name, one in model.named_parameters() if one.requires_grad} == learning


@pytest.mark.parametrize("adapter", ALL, ids=kind)
def test_gradients_reach_the_adapter(make_blind: MakeModel, examples: list[Example], adapter: dict[str, Any]) -> None:
    model = train(make_blind(adapter=adapter))
    for name, parameter in model.language.named_parameters():
        parameter.requires_grad_(is_adapter(name))
    model(batch_of(model, examples)).square().mean().backward()
    reached = {name for name, one in model.language.named_parameters() if one.grad is not None and one.grad.any()}
    assert reached == {name for name, _ in model.language.named_parameters() if is_adapter(name)}


@pytest.mark.parametrize("adapter", [LORA, DORA, IA3], ids=kind)
def test_layers_of_gpt_2_that_are_stored_the_other_way_round_are_merged_too(
    tokenizer_folder: Path, examples: list[Example], adapter: dict[str, Any]
) -> None:
    language = CausalLanguageModel(None, config=GPT2, tokenizer=str(tokenizer_folder), adapter=adapter)
    model = train(VisionLanguageModel(language, None, None)).eval()
    before = logits(model, examples)
    language.merge()
    torch.testing.assert_close(logits(model, examples), before, atol=1e-5, rtol=0)


# peft 0.21 asks transformers by a name that 5.23 has deprecated.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_a_soft_prompt_is_that_of_peft(make_blind: MakeModel) -> None:
    ours = make_blind(adapter=PROMPT).language
    theirs = get_peft_model(
        make_blind().language.model,
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5, prompt_tuning_init="RANDOM"),
    ).eval()
    theirs.prompt_encoder["default"].embedding.weight.data = ours.soft_prompt.prompt_PD.data.clone()
    ids_BT = torch.randint(3, 400, (2, 9))
    seen_BT = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    with torch.no_grad():
        expected = theirs(input_ids=ids_BT, attention_mask=seen_BT).logits[:, 5:]
        found = ours.head(ours(ours.embed(ids_BT), seen_BT))
    torch.testing.assert_close(found[seen_BT.bool()], expected[seen_BT.bool()], atol=1e-5, rtol=0)
    read_BT = ids_BT[:1]
    for _ in range(4):
        with torch.no_grad():
            read_BT = torch.cat([read_BT, theirs(input_ids=read_BT).logits[:, -1:].argmax(-1)], dim=1)
    left_BT = torch.cat([torch.zeros(1, 3, dtype=torch.long), ids_BT[:1]], dim=1)
    written_BT = ours.generate(ours.embed(left_BT), (left_BT > 0).long(), max_new_tokens=4)
    assert written_BT.tolist() == read_BT[:, 9:].tolist()


def test_likelihoods_are_read_behind_a_soft_prompt_with_and_without_an_image(
    make_model: MakeModel, make_processor: Callable[..., Processor], examples: list[Example]
) -> None:
    model = make_model(adapter=PROMPT, initializer_range=0.3)
    processor = make_processor(model)
    closed = [example for example in examples if example.options]
    for example, likelihoods in zip(closed, score_options(model, processor, closed), strict=True):
        asked = processor.question(example)
        for option, value in zip(example.options, likelihoods.values, strict=True):
            said = torch.tensor(processor.answer_ids(example, option))
            ids_T = torch.cat([asked.ids, said])
            batch = pad([asked], image_id=processor.image_id)
            with torch.no_grad():
                words_TD = model.language.embed(ids_T)[None]
                words_TD[:, : len(asked.ids)] = model.embed(batch)
                whole = torch.cat([model.language.soft_prompt.prompt_PD[None], words_TD], dim=1)
                shares = model.language.model(inputs_embeds=whole).logits[0].log_softmax(-1)
            expected = shares[-len(said) - 1 : -1].gather(1, said[:, None]).sum()
            assert value == pytest.approx(float(expected), abs=1e-4)


def test_a_soft_prompt_begins_as_the_words_it_is_given(make_blind: MakeModel) -> None:
    language = make_blind(adapter={"kind": "prompt", "tokens": 7, "text": "Is there"}).language
    words = torch.tensor(language.tokenizer("Is there", add_special_tokens=False)["input_ids"])
    expected = language.embed(words.repeat(7)[:7])
    torch.testing.assert_close(language.soft_prompt.prompt_PD, expected)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"r": 4}, r"unknown kind None \(known: dora, ia3, lora, prompt, qlora\)"),
        ({"kind": "lorra"}, r"unknown kind 'lorra' \(did you mean 'lora'\?\)"),
        ({"kind": "lora", "rang": 4}, r"adapter lora: unknown setting 'rang'"),
        ({"kind": "lora", "use_dora": True}, "adapter lora: unknown setting 'use_dora'"),
        ({"kind": "lora", "target_modules": ["nowhere"]}, "adapter lora: .*nowhere.*; name target_modules it has"),
        ({"kind": "prompt", "tokens": 0}, "adapter prompt: tokens is 0; expected how many"),
        ({"kind": "prompt", "tokns": 5}, r"adapter prompt: unknown setting 'tokns' \(did you mean 'tokens'\?\)"),
        ({"kind": "prompt", "text": ""}, "adapter prompt: text '' has no token"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(make_blind: MakeModel, adapter: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_blind(adapter=adapter)


def test_scales_of_a_family_that_peft_does_not_know_have_to_be_named(tokenizer_folder: Path) -> None:
    olmo = {"model_type": "olmo2", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = olmo | {"num_attention_heads": 2, "vocab_size": 420}
    with pytest.raises(ConfigError, match=r"adapter ia3: .*target_modules"):
        CausalLanguageModel(None, config=config, tokenizer=str(tokenizer_folder), adapter=IA3)


def test_four_bits_need_their_package(make_blind: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"kind qlora keeps weights in 4 bits with bitsandbytes; pip install 'mmmed\[qlora\]'"
    ):
        make_blind(adapter=QLORA)


def test_what_cannot_be_merged_is_refused(make_blind: MakeModel) -> None:
    with pytest.raises(ConfigError, match="merge: the language model has nothing to put into its weights"):
        make_blind().language.merge()
    with pytest.raises(ConfigError, match="has a soft prompt to put into its weights"):
        make_blind(adapter=PROMPT).language.merge()
    with pytest.raises(ConfigError, match="unmerge: the adapter is not in the weights"):
        make_blind(adapter=LORA).language.unmerge()


def test_a_soft_prompt_in_front_of_packed_documents_is_refused(make_blind: MakeModel) -> None:
    language = make_blind(adapter=PROMPT).language
    with pytest.raises(ConfigError, match="do not pack"):
        language(torch.zeros(1, 4, 64), None, positions_BT=torch.tensor([[0, 1, 0, 1]]))
