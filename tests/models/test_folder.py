"""A model comes back from its folder as it went in, or not at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mmmed.data.collate import pad
from mmmed.errors import CheckpointError, ConfigError, OutputError
from mmmed.models.encoders.fused import FusedEncoder
from mmmed.models.encoders.tiled import TiledEncoder
from mmmed.models.features import FrozenFeatures
from mmmed.models.folder import load, load_weights, save
from mmmed.models.language import CausalLanguageModel
from mmmed.models.projector import MLPProjector
from mmmed.models.vlm import Batch, VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

MakeModel = Callable[..., VisionLanguageModel]
LORA = {"kind": "lora", "r": 2, "lora_dropout": 0.1}


def keep(model: VisionLanguageModel, folder: Path) -> Path:
    save(model, folder, settings={"system": "Be brief.", "max_length": 99}, provenance={"steps": 3})
    return folder


@pytest.fixture
def ask(make_processor: Callable[..., Processor], examples: list[Example]) -> Callable[[VisionLanguageModel], Batch]:
    def make(model: VisionLanguageModel) -> Batch:
        processor = make_processor(model)
        return pad([processor.training(example) for example in examples], image_id=processor.image_id)

    return make


@pytest.mark.parametrize(
    "settings",
    [{}, {"vision": False}, {"adapter": LORA}, {"tie_word_embeddings": True}, {"select": "cls_patch"}],
    ids=lambda settings: next(iter(settings), "plain"),
)
def test_a_loaded_model_equals_the_saved_one(
    make_model: MakeModel, ask: Callable[[VisionLanguageModel], Batch], tmp_path: Path, settings: dict[str, Any]
) -> None:
    model = make_model(**settings)
    batch = ask(model)
    torch.manual_seed(7)  # what is built at random on the way back is not what went in
    opened = load(keep(model, tmp_path / "model"))
    assert opened.settings == {"system": "Be brief.", "max_length": 99}
    assert opened.provenance == {"steps": 3}
    state = opened.model.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    again = ask(opened.model)
    assert torch.equal(again.ids_BT, batch.ids_BT)
    assert torch.equal(again.pixels_NCHW, batch.pixels_NCHW)
    with torch.no_grad():
        assert torch.equal(opened.model(again), model(batch))


def test_a_folder_is_the_same_after_a_second_save(make_model: MakeModel, tmp_path: Path) -> None:
    first = keep(make_model(), tmp_path / "first")
    second = keep(load(first).model, tmp_path / "second")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert json.loads((first / "model.json").read_text()) == json.loads((second / "model.json").read_text())


def test_frozen_features_are_saved_with_their_encoder(
    make_model: MakeModel,
    ask: Callable[[VisionLanguageModel], Batch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "cache"))
    plain = make_model()
    model = VisionLanguageModel(plain.language, FrozenFeatures(plain.vision), MLPProjector)
    model.projector.load_state_dict(plain.projector.state_dict())
    opened = load(keep(model, tmp_path / "model")).model
    batch = ask(opened)
    with torch.no_grad():
        torch.testing.assert_close(opened(batch), plain(batch))
        assert list((tmp_path / "cache" / "features").rglob("*.features"))
        monkeypatch.setattr(opened.vision.encoder, "forward", lambda pixels: pytest.fail("computed again"))
        torch.testing.assert_close(opened(batch), plain(batch))


@pytest.mark.parametrize("tiled", [False, True])
def test_a_model_with_fused_or_tiled_encoders_comes_back(
    make_model: MakeModel, ask: Callable[[VisionLanguageModel], Batch], tmp_path: Path, tiled: bool
) -> None:
    plain = make_model()
    # Another normalisation than the architecture's own, as weights may bring it.
    plain.vision.transform = replace(plain.vision.transform, mean=(0.3, 0.4, 0.5))
    encoder = FusedEncoder([make_model(seed=1).vision, plain.vision])
    model = VisionLanguageModel(plain.language, TiledEncoder(encoder) if tiled else encoder, MLPProjector)
    opened = load(keep(model.eval(), tmp_path / "model")).model
    batch = ask(model)
    assert torch.equal(ask(opened).pixels_NCHW, batch.pixels_NCHW)
    with torch.no_grad():
        assert torch.equal(opened(batch), model(batch))


def test_weights_go_into_a_model_with_fresh_adapters(
    make_model: MakeModel, ask: Callable[[VisionLanguageModel], Batch], tmp_path: Path
) -> None:
    trained = make_model(seed=1)
    adapted = make_model(seed=2, adapter=LORA)
    load_weights(adapted, keep(trained, tmp_path / "model"))
    batch = ask(trained)
    with torch.no_grad():
        torch.testing.assert_close(adapted(batch), trained(batch))


def test_trained_adapters_go_into_a_model_with_adapters(make_model: MakeModel, tmp_path: Path) -> None:
    trained = make_model(seed=1, adapter=LORA)
    for name, parameter in trained.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    adapted = make_model(seed=2, adapter=LORA)
    load_weights(adapted, keep(trained, tmp_path / "model"))
    state = adapted.state_dict()
    assert all(torch.equal(state[key], value) for key, value in trained.state_dict().items())


@pytest.mark.parametrize(
    ("saved", "given"),
    [
        ({}, {"hidden_size": 64}),
        ({}, {"num_hidden_layers": 1}),
        ({}, {"num_hidden_layers": 3}),
        ({}, {"vision": False}),
        ({"vision": False}, {}),
        ({"adapter": LORA}, {}),
        ({"adapter": LORA}, {"adapter": {"kind": "lora", "r": 4}}),
    ],
)
def test_another_architecture_is_refused(
    make_model: MakeModel, tmp_path: Path, saved: dict[str, Any], given: dict[str, Any]
) -> None:
    folder = keep(make_model(**saved), tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"another architecture: \d+ tensors do not fit, such as '"):
        load_weights(make_model(**given), folder)


@pytest.mark.parametrize(
    "class_path",
    [
        "os.system",
        "mmmed.models.folder.import_module",
        "mmmed.models.folder.shutil.rmtree",
        "mmmed.models.folder.load",
        "mmmed.models.vision.nothing",
        "mmmed.nowhere.Encoder",
        "mmmedical.models.Encoder",
    ],
)
def test_a_class_that_is_no_model_of_ours_is_refused(make_model: MakeModel, tmp_path: Path, class_path: str) -> None:
    folder = keep(make_model(), tmp_path / "model")
    content = json.loads((folder / "model.json").read_text())
    content["model"]["vision"] = {"class_path": class_path, "init_args": {"name": "colorsys"}}
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"{class_path}.*refused"):
        load(folder)


def test_what_is_no_folder_of_ours_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no model folder"):
        load(tmp_path)
    folder = keep(make_model(), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(folder)
    (folder / "model.json").write_text('{"format": 0}')
    with pytest.raises(CheckpointError, match="is not of format 1"):
        load(folder)
    (folder / "model.json").write_text('{"format":')
    with pytest.raises(CheckpointError, match="is no model folder"):
        load(folder)


def test_a_failed_save_leaves_nothing_behind(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the model to"):
        keep(model, tmp_path / "file" / "model")

    folder = keep(model, tmp_path / "model")

    def no_space(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model.language.tokenizer, "save_pretrained", no_space)
    with pytest.raises(OutputError, match="No space left on device; free space or choose another --output"):
        keep(model, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]
    assert load_file(folder / "model.safetensors"), "the older model is still whole"


def test_random_weights_need_a_configuration_and_a_tokenizer(tokenizer_folder: Path) -> None:
    with pytest.raises(ConfigError, match="needs `weights`, or `config`"):
        CausalLanguageModel(None, tokenizer=str(tokenizer_folder))
    with pytest.raises(ConfigError, match="needs `tokenizer`"):
        CausalLanguageModel(None, config={"model_type": "gpt2", "n_layer": 1, "n_embd": 12, "vocab_size": 8})
