"""An upcycled language model says what the dense one said, keeps its recipe, and starts from a dense stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from mmmed.errors import CheckpointError, ConfigError
from mmmed.models.auxiliary import measures_of, take_auxiliary_loss
from mmmed.models.decoder import decoder_layers
from mmmed.models.experts import ExpertsProjector, MixtureOfExperts
from mmmed.models.folder import load, load_weights, save
from mmmed.models.upcycling import SparseLanguageModel, sparse_upcycle
from mmmed.models.vlm import VisionLanguageModel

TINY: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "intermediate_size": 48, "num_hidden_layers": 3},
    "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 32, "resid_pdrop": 0.0},
    "gpt_neox": {"intermediate_size": 48, "num_hidden_layers": 3},
    "phi": {"intermediate_size": 48, "num_hidden_layers": 3},
}


def decoder(family: str) -> Any:
    torch.manual_seed(0)
    common = {} if family == "gpt2" else {"hidden_size": 32, "num_attention_heads": 4}
    config = AutoConfig.for_model(family, vocab_size=50, initializer_range=0.3, **common, **TINY[family])
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize(("top_k", "training"), [(1, False), (2, False), (4, False), (4, True)])
def test_right_after_upcycling_the_model_says_what_the_dense_one_said(family: str, top_k: int, training: bool) -> None:
    model = decoder(family)
    ids = torch.randint(50, (2, 9))
    with torch.no_grad():
        dense = model(ids).logits
        assert sparse_upcycle(model, top_k=top_k) == [0, 2]
        # In training each expert takes 1.5 times its share, which all experts asked by all tokens do not exceed.
        for module in model.modules():
            if isinstance(module, MixtureOfExperts):
                module.train(training)
        torch.testing.assert_close(model(ids).logits, dense, atol=1e-4, rtol=1e-5)
    assert len([one for one in model.modules() if isinstance(one, MixtureOfExperts)]) == 2


def test_weights_as_in_switch_scale_what_the_expert_says() -> None:
    model = decoder("llama")
    ids = torch.randint(50, (2, 9))
    dense = model(ids).logits
    sparse_upcycle(model, top_k=1, normalise=False)
    assert (model(ids).logits - dense).abs().max() > 1e-2


def test_all_layers_are_changed_when_every_is_one() -> None:
    assert sparse_upcycle(decoder("gpt2"), every=1) == [0, 1, 2]


def test_a_model_that_has_experts_already_is_refused() -> None:
    model = decoder("llama")
    sparse_upcycle(model)
    with pytest.raises(ConfigError, match=r"layer 0 .* has no dense `mlp`"):
        sparse_upcycle(model)


def test_layers_are_found_in_each_family_and_missed_where_there_are_none() -> None:
    assert [len(decoder_layers(decoder(family))) for family in TINY] == [3] * len(TINY)
    with pytest.raises(ConfigError, match="Linear has no list of decoder layers"):
        decoder_layers(torch.nn.Linear(2, 2))


def test_a_sparse_model_is_saved_with_its_recipe_and_opens_again(
    make_model: Callable[..., VisionLanguageModel], tokenizer_folder: Path, tmp_path: Path
) -> None:
    language = sparse(make_model, tokenizer_folder, experts=3, top_k=1, capacity=None, normalise=False)
    model = VisionLanguageModel(language, None, None).eval()
    save(model, tmp_path / "model", settings={}, provenance={})
    opened = load(tmp_path / "model").model
    assert isinstance(opened.language, SparseLanguageModel)
    assert opened.recipe()["language"]["init_args"].items() >= {"experts": 3, "top_k": 1, "normalise": False}.items()
    ids = torch.randint(400, (2, 7))
    with torch.no_grad():
        assert torch.equal(opened.language.model(ids).logits, language.model(ids).logits)


def test_a_stage_with_experts_starts_from_a_dense_one(
    make_model: Callable[..., VisionLanguageModel], tokenizer_folder: Path, tmp_path: Path
) -> None:
    dense = make_model(seed=5)
    save(dense, tmp_path / "dense", settings={}, provenance={})
    language = sparse(make_model, tokenizer_folder)
    routers = [one.router.weight.clone() for one in language.modules() if isinstance(one, MixtureOfExperts)]
    model = VisionLanguageModel(language, make_model().vision, lambda *widths: ExpertsProjector(*widths, experts=2))
    load_weights(model.eval(), tmp_path / "dense")
    ids, features = torch.randint(400, (2, 7)), torch.randn(2, 16, 32)
    with torch.no_grad():
        torch.testing.assert_close(language.model(ids).logits, dense.language.model(ids).logits)
        torch.testing.assert_close(model.projector(features), dense.projector(features))
    kept = [one.router.weight for one in language.modules() if isinstance(one, MixtureOfExperts)]
    assert routers
    assert all(torch.equal(*pair) for pair in zip(routers, kept, strict=True))
    save(model, tmp_path / "sparse", settings={}, provenance={})
    with pytest.raises(CheckpointError, match=r"do not fit, such as .*mlp"):
        load_weights(make_model(), tmp_path / "sparse")


def test_a_forward_pass_leaves_losses_and_measures_of_each_changed_layer(
    make_model: Callable[..., VisionLanguageModel], tokenizer_folder: Path
) -> None:
    language = sparse(make_model, tokenizer_folder, every=1, balance=0.1).train()
    language(language.embed(torch.randint(400, (2, 7))), torch.ones(2, 7, dtype=torch.long))
    told = measures_of(language)
    assert {name for name in told if name.endswith("balance")} == {
        f"model.model.layers.{n}.mlp/balance" for n in (0, 1)
    }
    balance = sum(value for name, value in told.items() if name.endswith("balance"))
    torch.testing.assert_close(take_auxiliary_loss(language).detach(), 0.1 * balance)


def sparse(make_model: Callable[..., VisionLanguageModel], tokenizer: Path, **settings: Any) -> SparseLanguageModel:
    config = make_model(vision=False).language.recipe()["init_args"]["config"]
    return SparseLanguageModel(None, config=config, tokenizer=str(tokenizer), **settings)
