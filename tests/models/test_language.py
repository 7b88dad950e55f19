"""Every family of language models computes through our door what transformers computes from token ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from mmmed.data.collate import pad
from mmmed.inference.scoring import score_options
from mmmed.models.folder import load, save
from mmmed.models.language import CausalLanguageModel
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import ModelInput, Processor
from mmmed.records import Example

VOCABULARY = 420
DECODER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
GROUPED = DECODER | {"num_key_value_heads": 2}
GPT = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = GROUPED | {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_experts": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": GPT,
    "gptj": GPT | {"rotary_dim": 4},  # attention and feed-forward in parallel, a bias in the output layer
    "gpt_neox": DECODER,  # in parallel
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": 4},
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 8},
    "gemma": GROUPED | {"head_dim": 8},  # embeddings times the root of the width
    "gemma2": GROUPED | {"head_dim": 8, "final_logit_softcapping": 3.0, "sliding_window": 4},
    "gemma3_text": GROUPED | {"head_dim": 8, "final_logit_softcapping": 3.0, "sliding_window": 4},
    "phi": GROUPED,  # a bias in the output layer
    "phi3": GROUPED,
    "cohere": GROUPED | {"logit_scale": 0.25},
    "granite": GROUPED | {"logits_scaling": 4.0, "embedding_multiplier": 3.0},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY, "initializer_range": 0.3},
    "mixtral": GROUPED | {"num_experts_per_tok": 2, "num_local_experts": 4},
    "olmoe": EXPERTS,
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 16},
    "qwen3_moe": EXPERTS | {"head_dim": 8},
}
# One of each kind: learned positions, rotary and parallel, sliding windows, scaled embeddings, alibi, experts.
KINDS = ("gpt2", "gptj", "mistral", "gemma3_text", "bloom", "mixtral")
ROUTED = ("mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
# Their positions come from the attention mask, so that rows cannot be packed.
UNPACKABLE = ("bloom",)

Make = Callable[..., CausalLanguageModel]


@pytest.fixture(scope="module")
def make(tokenizer_folder: Path) -> Make:
    """Makes a tiny language model of a family, of random weights; the same one for all tests."""
    made: dict[str, CausalLanguageModel] = {}

    def build(family: str) -> CausalLanguageModel:
        if family not in made:
            torch.manual_seed(0)
            config = {"model_type": family, **FAMILIES[family]}
            made[family] = CausalLanguageModel(None, config=config, tokenizer=str(tokenizer_folder))
        return made[family].eval()

    return build


def sequences(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator) for length in lengths]


def padded(rows: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Token ids, and 1 on tokens."""
    ids_BT = pad_sequence(rows, batch_first=True, padding_side=side)
    return ids_BT, pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)


def logits(language: CausalLanguageModel, ids_BT: Tensor, attention_BT: Tensor | None, **settings: Any) -> Tensor:
    return language.head(language(language.embed(ids_BT), attention_BT, **settings))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_equal_those_of_the_library_from_token_ids(make: Make, family: str) -> None:
    language = make(family)
    (ids_T,) = sequences(11)
    theirs = language.model(input_ids=ids_T[None]).logits
    ours = logits(language, ids_T[None], torch.ones(1, 11, dtype=torch.long))
    assert ours.shape == (1, 11, VOCABULARY)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert language.width == language.embed(ids_T).shape[-1] == language.output_matrix.shape[-1]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(make: Make, family: str) -> None:
    language = make(family)
    rows = sequences(11, 7)
    alone = [language.model(input_ids=ids_T[None]).logits[0] for ids_T in rows]
    for side in ("left", "right"):
        ids_BT, seen_BT = padded(rows, side)
        ours = logits(language, ids_BT, seen_BT)
        for row, theirs in enumerate(alone):
            torch.testing.assert_close(ours[row, seen_BT[row].bool()], theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_a_cache_holds_need_not_be_read_again(make: Make, family: str) -> None:
    language = make(family)
    (ids_T,) = sequences(11)
    cache = DynamicCache(config=language.model.config)
    logits(language, ids_T[None, :6], torch.ones(1, 6, dtype=torch.long), cache=cache)
    rest = logits(language, ids_T[None, 6:], torch.ones(1, 11, dtype=torch.long), cache=cache)
    torch.testing.assert_close(rest, language.model(input_ids=ids_T[None]).logits[:, 6:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in UNPACKABLE])
@torch.no_grad()
def test_packed_documents_do_not_see_each_other(make: Make, family: str) -> None:
    language = make(family)
    documents = sequences(5, 8, 6)
    positions = torch.cat([torch.arange(len(one)) for one in documents])
    packed = logits(language, torch.cat(documents)[None], None, positions_BT=positions[None])[0]
    for ours, ids_T in zip(packed.split([len(one) for one in documents]), documents, strict=True):
        torch.testing.assert_close(ours, language.model(input_ids=ids_T[None]).logits[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", KINDS)
@torch.no_grad()
def test_likelihoods_from_shared_prefixes_equal_those_of_whole_sequences(
    make: Make, make_processor: Callable[..., Processor], make_example: Callable[..., Example], family: str
) -> None:
    model = VisionLanguageModel(make(family), None, None).eval()
    processor = make_processor(model)
    options = ("left lung", "right", "left and right")
    examples = [make_example("a", "Where does it lie?", "right", options=options)]
    examples.append(make_example("b", "Is there?", "yes", options=("yes", "no")))
    for example, likelihoods in zip(examples, score_options(model, processor, examples), strict=True):
        asked = processor.question(example).ids
        for option, value in zip(example.options, likelihoods.values, strict=True):
            said = torch.tensor(processor.answer_ids(example, option))
            words = model.language.model(input_ids=torch.cat([asked, said])[None]).logits[0].log_softmax(-1)
            expected = words[len(asked) - 1 : -1].gather(1, said[:, None]).sum()
            assert value == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("family", KINDS)
@torch.no_grad()
def test_greedy_text_equals_that_of_the_library(make: Make, family: str) -> None:
    language = make(family)
    rows = sequences(9, 6)
    ids_BT, seen_BT = padded(rows, "left")
    together = language.generate(language.embed(ids_BT), seen_BT, max_new_tokens=4)
    for row, ids_T in enumerate(rows):
        alone = language.model.generate(
            input_ids=ids_T[None],
            attention_mask=torch.ones(1, len(ids_T), dtype=torch.long),
            max_new_tokens=4,
            do_sample=False,
            eos_token_id=language.tokenizer.eos_token_id,
            pad_token_id=language.tokenizer.pad_token_id,
        )[0, len(ids_T) :]
        assert together[row, : len(alone)].tolist() == alone.tolist()


@pytest.mark.parametrize("family", ROUTED)
def test_the_balance_of_the_experts_is_the_librarys_own_loss(make: Make, family: str) -> None:
    language = make(family).train()
    rows = sequences(11, 7)
    ids_BT, seen_BT = padded(rows, "right")
    language(language.embed(ids_BT), seen_BT)
    theirs = language.model(input_ids=ids_BT, attention_mask=seen_BT, output_router_logits=True).aux_loss
    assert language.auxiliary_loss is not None
    torch.testing.assert_close(language.auxiliary_loss, language.model.router_aux_loss_coef * theirs)
    assert float(theirs.detach()) > 0
    language.auxiliary_loss.backward()
    routers = [one for name, one in language.named_parameters() if name.endswith("mlp.gate.weight")]
    assert routers
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in routers)
    assert 0.25 <= language.measures()["busiest_expert"] <= 1


def test_a_model_without_experts_has_no_balance_to_lose(make: Make) -> None:
    language = make("llama").train()
    language(language.embed(torch.ones(1, 3, dtype=torch.long)), torch.ones(1, 3, dtype=torch.long))
    assert language.auxiliary_loss is None
    assert language.measures() == {}


@torch.no_grad()
def test_nothing_is_balanced_while_answering(make: Make) -> None:
    language = make("mixtral")
    language(language.embed(torch.ones(1, 3, dtype=torch.long)), torch.ones(1, 3, dtype=torch.long))
    assert language.auxiliary_loss is None


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gptj", "granite"])
@torch.no_grad()
def test_exact_logits_of_a_model_in_bfloat16_are_not_rounded(tokenizer_folder: Path, family: str) -> None:
    torch.manual_seed(0)
    config = {"model_type": family, **FAMILIES[family]}
    language = CausalLanguageModel(None, config=config, tokenizer=str(tokenizer_folder)).eval()
    language.bfloat16()
    hidden_SD = torch.randn(7, language.width, generator=torch.Generator().manual_seed(2)).bfloat16()
    exact, rounded = language.head(hidden_SD, exact=True), language.head(hidden_SD)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert language.output_matrix.dtype == torch.bfloat16, "the model stays as it is"
    torch.testing.assert_close(exact, language.float().head(hidden_SD.float()))
    assert not torch.equal(exact, rounded.float())
    torch.testing.assert_close(exact, rounded.float(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("family", ["gemma", "llama"])
def test_tied_weights_are_saved_once_and_stay_tied(tokenizer_folder: Path, tmp_path: Path, family: str) -> None:
    language = CausalLanguageModel(
        None,
        config={"model_type": family, "tie_word_embeddings": True, **FAMILIES[family]},
        tokenizer=str(tokenizer_folder),
    )
    save(VisionLanguageModel(language, None, None), tmp_path / "model", settings={}, provenance={})
    opened = load(tmp_path / "model").model.language
    assert opened.output_matrix.data_ptr() == opened.model.get_input_embeddings().weight.data_ptr()
    assert torch.equal(opened.output_matrix, language.output_matrix)


def test_left_padded_questions_of_a_model_with_learned_positions_are_read_as_they_are(
    make: Make, make_processor: Callable[..., Processor]
) -> None:
    """GPT-2 counts positions from the left edge unless it is told where the text begins."""
    model = VisionLanguageModel(make("gpt2"), None, None).eval()
    image_id = make_processor(model).image_id
    inputs = [
        ModelInput("", ids, torch.zeros(len(ids), dtype=torch.bool), torch.empty(0, 3, 0, 0)) for ids in sequences(9, 4)
    ]
    with torch.no_grad():
        left, alone = model(pad(inputs, image_id=image_id, left=True)), model(pad(inputs[1:], image_id=image_id))
    torch.testing.assert_close(left[1, -4:], alone[0], atol=1e-5, rtol=0)
