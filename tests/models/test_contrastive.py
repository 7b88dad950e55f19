"""Two towers: unit vectors that padding and batch do not move, saved and handed on as they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmmed.errors import CheckpointError, ConfigError
from mmmed.models.contrastive import AttentionPool, ContrastiveModel
from mmmed.models.encoders.timm import TimmEncoder
from mmmed.models.features import FrozenFeatures
from mmmed.models.folder import load, load_contrastive, load_weights, save
from mmmed.models.projector import MLPProjector
from mmmed.models.text import LanguageText, TransformerText, pooled
from mmmed.models.vlm import VisionLanguageModel

MakeTowers = Callable[..., ContrastiveModel]
MakeModel = Callable[..., VisionLanguageModel]


def words(model: ContrastiveModel, *texts: str) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = model.tokenizer(list(texts), padding=True, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


@pytest.mark.parametrize("settings", [{}, {"llama": True}, {"pool": "attention"}], ids=str)
@torch.no_grad()
def test_places_have_length_one_and_do_not_depend_on_their_company(
    make_towers: MakeTowers, settings: dict[str, Any]
) -> None:
    model = make_towers(**settings)
    pixels = torch.randn(3, 3, 32, 32)
    together = model.embed_texts(*words(model, "yes", "no effusion left and right"))
    torch.testing.assert_close(together[:1], model.embed_texts(*words(model, "yes")))
    seen = model.embed_images(pixels)
    torch.testing.assert_close(seen[:1], model.embed_images(pixels[:1]))
    for places in (together, seen):
        torch.testing.assert_close(places.norm(dim=-1), torch.ones(len(places)))


def test_pooling_reads_tokens_and_no_padding() -> None:
    hidden = torch.arange(12.0).view(2, 3, 2)
    attention = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pooled(hidden, attention, pool="mean").tolist() == [[1, 2], [8, 9]]
    assert pooled(hidden, attention, pool="last").tolist() == [[2, 3], [10, 11]]
    assert pooled(hidden, attention, pool="first").tolist() == [[0, 1], [6, 7]]


def test_attention_looks_where_the_query_points() -> None:
    pool = AttentionPool(width=4, tokens=3, queries=2)
    with torch.no_grad():
        pool.places_NW.zero_()
        for layer in (pool.key, pool.value):
            layer.weight.copy_(torch.eye(4))
            layer.bias.zero_()
    features = torch.eye(4)[None, :3]
    with torch.no_grad():
        pool.queries_QW.copy_(100 * torch.eye(4)[[1, 1]])
    torch.testing.assert_close(pool(features), pool.norm(features)[:, 1])


def test_the_temperature_is_bounded_and_learns_below_the_bound(make_towers: MakeTowers) -> None:
    shared = make_towers(scale=10.0).shared
    torch.testing.assert_close(shared.scale, torch.tensor(10.0))
    shared.log_scale.data.fill_(9.0)
    assert shared.scale.item() == 100.0


def test_batch_norms_keep_their_statistics_while_the_encoder_learns(make_towers: MakeTowers) -> None:
    towers = make_towers()
    model = ContrastiveModel(TimmEncoder("resnet10t", weights=None, size=32), towers.text).train()
    norms = [one for one in model.vision.modules() if isinstance(one, nn.BatchNorm2d)]
    before = [one.running_mean.clone() for one in norms if one.running_mean is not None]
    pixels = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model.embed_images(pixels)[:2], model.embed_images(pixels[:2]), atol=1e-5, rtol=1e-4)
    assert before
    assert all(torch.equal(one.running_mean, old) for one, old in zip(norms, before, strict=True))


@pytest.mark.parametrize(
    "settings", [{}, {"llama": True}, {"pool": "attention", "queries": 2}, {"scale": 10.0, "bias": -10.0}], ids=str
)
def test_a_loaded_model_equals_the_saved_one(make_towers: MakeTowers, tmp_path: Path, settings: dict[str, Any]) -> None:
    model = make_towers(**settings)
    save(model, tmp_path / "model", settings={"max_length": 9}, provenance={"steps": 3})
    torch.manual_seed(7)  # what is built at random on the way back is not what went in
    opened = load_contrastive(tmp_path / "model")
    assert (opened.settings, opened.provenance) == ({"max_length": 9}, {"steps": 3})
    state = opened.model.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert opened.model.transform == model.transform
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(opened.model.embed_images(pixels), model.embed_images(pixels))
        places = [one.embed_texts(*words(one, "yes", "no effusion")) for one in (opened.model, model)]
    assert torch.equal(*places)


@pytest.mark.parametrize("kept_before", [False, True])
@pytest.mark.parametrize("kept_after", [False, True])
def test_a_vision_language_model_takes_over_the_trained_encoder(
    make_towers: MakeTowers, make_model: MakeModel, tmp_path: Path, kept_before: bool, kept_after: bool
) -> None:
    towers, plain = make_towers(seed=3), make_model(seed=4)
    trained = {key: value.clone() for key, value in towers.vision.state_dict().items()}
    if kept_before:
        towers.vision = FrozenFeatures(towers.vision, folder=str(tmp_path / "features"))
    save(towers, tmp_path / "model", settings={}, provenance={})
    vision = FrozenFeatures(plain.vision, folder=str(tmp_path / "features")) if kept_after else plain.vision
    model = VisionLanguageModel(plain.language, vision, MLPProjector)
    language = {key: value.clone() for key, value in model.language.state_dict().items()}
    load_weights(model, tmp_path / "model")
    encoder = vision.encoder if isinstance(vision, FrozenFeatures) else vision
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in trained.items())
    assert all(torch.equal(model.language.state_dict()[key], value) for key, value in language.items())


def test_an_encoder_that_does_not_fit_is_refused(
    make_towers: MakeTowers, make_model: MakeModel, tmp_path: Path
) -> None:
    towers = make_towers()
    save(towers, tmp_path / "towers", settings={}, provenance={})
    model = make_model()
    model.vision = TimmEncoder("resnet10t", weights=None, size=32)
    with pytest.raises(CheckpointError, match=r"another architecture: \d+ tensors do not fit, such as '"):
        load_weights(model, tmp_path / "towers")
    with pytest.raises(CheckpointError, match="drop init_from or vision: null"):
        load_weights(make_model(vision=False), tmp_path / "towers")
    with pytest.raises(CheckpointError, match="answers no question; evaluate it with `mmmed zero_shot`"):
        load(tmp_path / "towers")
    save(make_model(), tmp_path / "model", settings={}, provenance={})
    with pytest.raises(CheckpointError, match="holds no contrastive model"):
        load_contrastive(tmp_path / "model")
    with pytest.raises(CheckpointError, match="another architecture"):
        load_weights(towers, tmp_path / "model")


def test_contrastive_training_goes_on_from_an_earlier_folder(make_towers: MakeTowers, tmp_path: Path) -> None:
    earlier, later = make_towers(seed=1), make_towers(seed=2)
    save(earlier, tmp_path / "model", settings={}, provenance={})
    load_weights(later, tmp_path / "model")
    assert all(torch.equal(later.state_dict()[key], value) for key, value in earlier.state_dict().items())


def test_text_encoders_come_from_weights_or_from_a_configuration(make_towers: MakeTowers, tmp_path: Path) -> None:
    text = make_towers().text
    text.model.save_pretrained(tmp_path / "bert")
    text.tokenizer.save_pretrained(tmp_path / "bert")
    again = TransformerText(str(tmp_path / "bert"), pool="first")
    ids, attention = words(make_towers(), "yes", "no effusion")
    with torch.no_grad():
        hidden = text.model(input_ids=ids, attention_mask=attention).last_hidden_state
        torch.testing.assert_close(again(ids, attention), hidden[:, 0])
    assert text.model.config.vocab_size == len(text.tokenizer)
    folder = str(tmp_path / "bert")
    for arguments, message in [
        ({"weights": None}, "give weights or, for random initialisation, a config"),
        ({"weights": folder, "config": {"model_type": "bert"}}, "give weights or"),
        ({"weights": None, "config": {"model_type": "bert"}}, "needs `tokenizer`"),
        ({"weights": None, "config": {"hidden_size": 8}, "tokenizer": folder}, "config has no model_type"),
    ]:
        with pytest.raises(ConfigError, match=message):
            TransformerText(**arguments)  # type: ignore[arg-type]


def test_weights_that_lack_a_tensor_are_refused(make_towers: MakeTowers, tmp_path: Path) -> None:
    text = make_towers().text
    state = {key: value for key, value in text.model.state_dict().items() if "layer.1.output.dense.weight" not in key}
    text.model.save_pretrained(tmp_path / "bert", state_dict=state)
    text.tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(CheckpointError, match=r"lack 1 tensors of the text encoder, such as 'encoder\.layer\.1"):
        TransformerText(str(tmp_path / "bert"))


def test_a_language_model_reads_a_text_with_its_last_token(make_towers: MakeTowers) -> None:
    tower = make_towers(llama=True).text
    assert isinstance(tower, LanguageText)
    last = LanguageText(tower.language, pool="last")
    ids, attention = words(make_towers(), "no effusion", "yes")
    with torch.no_grad():
        alone = tower.language.model.base_model(input_ids=ids[1:, :1]).last_hidden_state[0, -1]
        torch.testing.assert_close(last(ids, attention)[1], alone)
