"""LLaVA there and back: same logits, same tensors, same words, and nothing dropped in silence."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mmmed.data.collate import pad
from mmmed.errors import CheckpointError, OutputError
from mmmed.inference.session import Session, open_session
from mmmed.interop.export import export
from mmmed.interop.importing import import_
from mmmed.interop.tensors import differing
from mmmed.models.encoders.open_clip import OpenClipEncoder
from mmmed.models.encoders.timm import TimmEncoder
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.features import FrozenFeatures
from mmmed.models.folder import load, save
from mmmed.models.language import CausalLanguageModel
from mmmed.models.projector import LinearProjector, MLPProjector, WordProjector
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example, LazyImage

Make = Callable[..., Any]
KINDS = [("clip", "default"), ("clip", "full"), ("siglip", "full")]
TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": 420,
    "initializer_range": 0.3,
}


def keep(model: VisionLanguageModel, folder: Path, **settings: Any) -> Path:
    """Save a model with a processor, as training does."""
    Processor(model.language.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image)
    save(model, folder, settings={"system": None, "max_length": 512} | settings, provenance={"steps": 3})
    return folder


def opened_by_transformers(folder: Path) -> tuple[Any, Any]:
    """Model and processor, with every key accounted for."""
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    model, told = LlavaForConditionalGeneration.from_pretrained(
        folder, output_loading_info=True, local_files_only=True, dtype=torch.float32
    )
    assert not any(told.values()), told
    return model.eval(), AutoProcessor.from_pretrained(folder, local_files_only=True)


def words_of_transformers(model: Any, processor: Any, example: Example, *, system: str | None = None) -> str:
    """What transformers alone answers, greedily."""
    pictures = [{"type": "image", "image": image.open().convert("RGB")} for image in example.images]
    asked = [{"role": "user", "content": [*pictures, {"type": "text", "text": example.question}]}]
    if system is not None:
        asked.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    inputs = processor.apply_chat_template(
        asked, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = model.generate(
        **inputs, max_new_tokens=8, do_sample=False, eos_token_id=processor.tokenizer.eos_token_id, pad_token_id=0
    )
    return str(processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def batch_of(session: Session, examples: list[Example]) -> Any:
    inputs = [session.processor.question(example) for example in examples]
    return pad(inputs, image_id=session.processor.image_id, left=True)


def assert_same_logits(session: Session, llava: Any, examples: list[Example]) -> None:
    batch = batch_of(session, examples)
    assert batch.attention_BT.min() == 0, "one is padded"
    with torch.no_grad():
        ours = session.model(batch)
        theirs = llava(
            input_ids=batch.ids_BT, attention_mask=batch.attention_BT, pixel_values=batch.pixels_NCHW
        ).logits[..., : ours.shape[-1]]
    seen = batch.attention_BT.bool()
    torch.testing.assert_close(ours[seen], theirs[seen], atol=1e-4, rtol=0)
    assert ours[seen].std() > 0.1


def assert_same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@dataclass(frozen=True)
class Square:
    """A film of the encoder's size, whose pixels no resizing can move by a grey value."""

    film: LazyImage

    @property
    def name(self) -> str:
        return self.film.name

    def open(self) -> Image.Image:
        return self.film.open().resize((32, 32))


def films(examples: list[Example]) -> list[Example]:
    """Questions about one film, and about two."""
    return [replace(one, images=tuple(map(Square, one.images))) for one in (examples[0], examples[2])]


@pytest.mark.parametrize(("vision", "strategy"), KINDS)
def test_an_import_computes_what_transformers_computes(
    make_llava: Make, hub_folder: Make, examples: list[Example], tmp_path: Path, vision: str, strategy: str
) -> None:
    folder = hub_folder(make_llava(vision=vision, strategy=strategy))
    session = open_session(import_(folder, tmp_path / "ours"), device="cpu")
    llava, processor = opened_by_transformers(folder)
    assert_same_logits(session, llava, films(examples))
    for example in films(examples):
        (answer,) = session.write([example], max_new_tokens=8)
        assert answer.text == words_of_transformers(llava, processor, example)
        assert answer.text


@pytest.mark.parametrize(("vision", "strategy"), KINDS)
def test_the_hub_layout_comes_back_bit_for_bit(
    make_llava: Make, hub_folder: Make, tmp_path: Path, vision: str, strategy: str
) -> None:
    hub = hub_folder(make_llava(vision=vision, strategy=strategy))
    again = export(import_(hub, tmp_path / "ours"), tmp_path / "again")
    assert_same_tensors(load_file(again / "model.safetensors"), load_file(hub / "model.safetensors"))
    config, before = (json.loads((folder / "config.json").read_text()) for folder in (again, hub))
    for key in ("vision_feature_layer", "vision_feature_select_strategy", "image_token_index", "image_seq_length"):
        assert config[key] == before[key]
    assert config["vision_config"]["num_hidden_layers"] == 3
    assert differing(again) == differing(tmp_path / "ours") == []


@pytest.mark.parametrize("layer", [-1, -3, 2])
def test_any_layer_is_read_as_llava_counts_it(
    make_llava: Make, hub_folder: Make, examples: list[Example], tmp_path: Path, layer: int
) -> None:
    folder = hub_folder(make_llava(layer=layer))
    session = open_session(import_(folder, tmp_path / "ours"), device="cpu")
    assert_same_logits(session, opened_by_transformers(folder)[0], films(examples))
    again = export(tmp_path / "ours", tmp_path / "again")
    assert_same_tensors(load_file(again / "model.safetensors"), load_file(folder / "model.safetensors"))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"select": "cls_patch"},
        {"tie_word_embeddings": True},
        {"adapter": {"kind": "lora", "r": 2}},
        {"system": "Be brief."},
    ],
    ids=lambda settings: next(iter(settings), "plain"),
)
def test_an_export_answers_in_transformers_as_here(
    make_model: Make, examples: list[Example], tmp_path: Path, settings: dict[str, Any]
) -> None:
    system = settings.pop("system", None)
    model = make_model(initializer_range=0.3, **settings)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = keep(model, tmp_path / "model", system=system)
    before = (folder / "model.safetensors").read_bytes()
    exported = export(folder, tmp_path / "hf")
    assert (folder / "model.safetensors").read_bytes() == before, "adapters are merged in a copy"
    session, (llava, processor) = open_session(folder, device="cpu"), opened_by_transformers(exported)
    assert_same_logits(session, llava, films(examples))
    for example in films(examples):
        (answer,) = session.write([example], max_new_tokens=8)
        assert answer.text == words_of_transformers(llava, processor, example)
    back = load(import_(exported, tmp_path / "back")).model
    if "adapter" not in settings:
        assert_same_tensors(back.state_dict(), load(folder).model.state_dict())
    assert open_session(tmp_path / "back", device="cpu").write(films(examples), max_new_tokens=8) == session.write(
        films(examples), max_new_tokens=8
    )


@pytest.mark.parametrize(
    ("kind", "linear"), [("siglip", False), ("dinov2", False), ("open_clip", False), ("frozen", False), ("clip", True)]
)
def test_every_encoder_that_llava_holds_is_exported(
    make_model: Make, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, linear: bool
) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "cache"))
    language = make_model(vision=False, initializer_range=0.3).language
    model = VisionLanguageModel(language, encoder(kind), LinearProjector if linear else MLPProjector).eval()
    folder = keep(model, tmp_path / "model")
    session, (llava, _) = open_session(folder, device="cpu"), opened_by_transformers(export(folder, tmp_path / "hf"))
    assert_same_logits(session, llava, films(examples))
    imported = open_session(import_(tmp_path / "hf", tmp_path / "back"), device="cpu")
    assert isinstance(imported.model.projector, LinearProjector if linear else MLPProjector)
    assert_same_logits(imported, llava, films(examples))


def encoder(kind: str) -> Any:
    """A tiny encoder with random weights."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    if kind == "open_clip":
        import open_clip

        tiny = {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8}
        config = {"embed_dim": 16, "vision_cfg": tiny, "text_cfg": {}, "quick_gelu": True}
        open_clip.factory._MODEL_CONFIGS["tiny-test"] = config
        return OpenClipEncoder("tiny-test", weights=None, layer=-2)
    if kind == "dinov2":
        config = sizes | {"model_type": "dinov2", "mlp_ratio": 2}
        return TransformersEncoder(weights=None, config=config, layer=-2, select="cls_patch")
    name = "siglip_vision_model" if kind == "siglip" else "clip_vision_model"
    made = TransformersEncoder(weights=None, config=sizes | {"model_type": name, "intermediate_size": 64}, layer=-2)
    return FrozenFeatures(made) if kind == "frozen" else made


@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "qwen3", "phi3"])
def test_every_language_model_that_is_allowed_is_exported(
    make_model: Make, tokenizer_folder: Path, examples: list[Example], tmp_path: Path, model_type: str
) -> None:
    torch.manual_seed(1)
    padding = {"pad_token_id": 0} if model_type == "phi3" else {}  # its own lies outside a tiny vocabulary
    config = TINY | {"model_type": model_type} | padding
    language = CausalLanguageModel(None, config=config, tokenizer=str(tokenizer_folder))
    folder = keep(VisionLanguageModel(language, encoder("clip"), MLPProjector).eval(), tmp_path / "model")
    session, (llava, _) = open_session(folder, device="cpu"), opened_by_transformers(export(folder, tmp_path / "hf"))
    assert_same_logits(session, llava, films(examples))


def test_a_small_vocabulary_is_padded_for_the_image_token_and_cut_again(
    make_model: Make, examples: list[Example], tmp_path: Path
) -> None:
    model = make_model(initializer_range=0.3, vocab_size=393)
    folder = keep(model, tmp_path / "model")
    exported = export(folder, tmp_path / "hf")
    llava, processor = opened_by_transformers(exported)
    assert llava.config.text_config.vocab_size == 448
    session = open_session(folder, device="cpu")
    assert_same_logits(session, llava, films(examples))
    (asked, _) = films(examples)
    assert session.write([asked], max_new_tokens=8)[0].text == words_of_transformers(llava, processor, asked)
    back = load(import_(exported, tmp_path / "back")).model
    assert_same_tensors(back.state_dict(), load(folder).model.state_dict())


@pytest.mark.parametrize("holds_vision", [True, False])
def test_an_original_llava_is_the_same_in_both_of_our_layouts(
    make_llava: Make,
    llava_folder: Make,
    clip_folder: Make,
    hub_folder: Make,
    examples: list[Example],
    tmp_path: Path,
    holds_vision: bool,
) -> None:
    model = make_llava()
    original, clip = llava_folder(model, holds_vision=holds_vision), clip_folder(model, weights=not holds_vision)
    ours = import_(original, tmp_path / "ours", vision=str(clip))
    exported = export(ours, tmp_path / "hf")
    assert_same_tensors(load_file(exported / "model.safetensors"), load_file(hub_folder(model) / "model.safetensors"))
    session, (llava, processor) = open_session(ours, device="cpu"), opened_by_transformers(exported)
    assert_same_logits(session, llava, films(examples))
    (answer,) = session.write(films(examples)[:1], max_new_tokens=8)
    assert answer.text == words_of_transformers(llava, processor, films(examples)[0])
    asked = session.processor.prompt.tokenizer.decode(session.processor.question(examples[0]).ids)
    assert asked.startswith("<s>A chat between a curious user")
    assert asked.endswith("<image>\nIs there a pleural effusion? ASSISTANT:")


def test_a_linear_projector_of_the_first_version_is_exact(
    make_llava: Make, llava_folder: Make, clip_folder: Make, examples: list[Example], tmp_path: Path
) -> None:
    model = make_llava()
    original = llava_folder(model, linear=True)
    ours = import_(original, tmp_path / "ours", vision=str(clip_folder(model)), template="llava_v0")
    exported = export(ours, tmp_path / "hf")
    llava, _ = opened_by_transformers(exported)
    assert llava.config.projector_hidden_act == "linear"
    second = llava.model.multi_modal_projector.linear_2
    assert torch.equal(second.weight, torch.eye(32))
    first = model.model.multi_modal_projector.linear_1
    assert torch.equal(llava.model.multi_modal_projector.linear_1.weight, first.weight)
    session = open_session(ours, device="cpu")
    assert_same_logits(session, llava, films(examples))
    assert "###Human: <image>" in session.processor.prompt.tokenizer.decode(session.processor.question(examples[0]).ids)


def test_a_checkpoints_own_vision_weights_are_used_and_not_the_references(
    make_llava: Make, llava_folder: Make, clip_folder: Make, tmp_path: Path
) -> None:
    trained, other = make_llava(seed=1), make_llava(seed=2)
    ours = import_(llava_folder(trained), tmp_path / "ours", vision=str(clip_folder(other)))
    state = load_file(ours / "model.safetensors")
    name = "encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(state[f"vision.model.{name}"], trained.state_dict()[f"model.vision_tower.{name}"])


def plant(name: str, shape: tuple[int, ...] = (2,)) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda state: state.update({name: torch.zeros(shape)})


def drop(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        del state[name]

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (plant("vision_tower.vision_model.encoder.layers.0.adapter.weight"), r"1 unused .*layers\.0\.adapter"),
        (plant("language_model.model.layers.7.mlp.up_proj.weight"), r"1 unused .*layers\.7"),
        (plant("image_newline"), r"1 unused \(image_newline\)"),
        (drop("multi_modal_projector.linear_2.bias"), r"1 unfilled \(projector\.linear_2\.bias\)"),
        (drop("vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight"), r"1 unfilled \(vision\.model\.encoder"),
        (plant("multi_modal_projector.linear_1.bias", (31,)), r"1 of another shape .*\(31,\) for \(32,\)"),
    ],
)
def test_a_planted_dropped_or_misshapen_key_of_the_hub_is_refused(
    make_llava: Make, hub_folder: Make, tmp_path: Path, change: Any, complaint: str
) -> None:
    folder = hub_folder(make_llava(), change=change)
    with pytest.raises(CheckpointError, match=complaint):
        import_(folder, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub"], "nothing is left behind"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (plant("model.vision_tower.vision_tower.vision_model.lora.weight"), r"1 unused .*vision_model\.lora"),
        (plant("model.second_tower.weight"), r"1 unused \(model\.second_tower"),
        (plant("model.image_newline"), r"1 unused \(model\.image_newline\)"),
        (drop("model.norm.weight"), r"1 unfilled \(language\.model\.model\.norm\.weight\)"),
        (drop("model.mm_projector.0.bias"), r"1 unfilled \(projector\.linear_1\.bias\)"),
    ],
)
def test_vision_weights_that_the_map_does_not_know_are_refused(
    make_llava: Make, llava_folder: Make, clip_folder: Make, tmp_path: Path, change: Any, complaint: str
) -> None:
    model = make_llava()
    with pytest.raises(CheckpointError, match=complaint):
        import_(llava_folder(model, change=change), tmp_path / "ours", vision=str(clip_folder(model)))


def test_what_the_chosen_layer_does_not_read_is_kept_and_trained_away_with_it(
    make_llava: Make, hub_folder: Make, make_model: Make, tmp_path: Path
) -> None:
    hub = hub_folder(make_llava())
    ours = import_(hub, tmp_path / "ours")
    kept = load_file(ours / "unread.safetensors")
    assert {name.split(".")[2] for name in kept} == {"encoder", "post_layernorm"}
    trained = load(ours)
    save(trained.model, tmp_path / "trained", settings=trained.settings, provenance={})
    config = json.loads((export(tmp_path / "trained", tmp_path / "hf") / "config.json").read_text())
    assert config["vision_config"]["num_hidden_layers"] == 3
    assert config["vision_feature_layer"] == -2
    block = load_file(tmp_path / "hf" / "model.safetensors")[
        "vision_tower.vision_model.encoder.layers.2.self_attn.out_proj.weight"
    ]
    assert not block.any(), "a block that changes nothing"


def test_what_llava_cannot_hold_is_one_line(make_model: Make, tmp_path: Path) -> None:
    language = make_model(vision=False).language
    embedded = VisionLanguageModel(
        language, TimmEncoder("tf_efficientnet_lite0", weights=None), lambda v, w: WordProjector(v, w)
    )
    with pytest.raises(CheckpointError, match="this model has TimmEncoder, and LLaVA holds CLIP, SigLIP or DINOv2"):
        export(keep(embedded, tmp_path / "embedded"), tmp_path / "hf")
    word = VisionLanguageModel(language, encoder("clip"), WordProjector)
    with pytest.raises(CheckpointError, match="projector is WordProjector, and LLaVA holds one linear layer or an MLP"):
        export(keep(word, tmp_path / "word"), tmp_path / "hf")
    pooled = VisionLanguageModel(language, encoder("clip"), lambda v, w: MLPProjector(v, w, pool=2))
    with pytest.raises(CheckpointError, match="MLPProjector with pooling"):
        export(keep(pooled, tmp_path / "pooled"), tmp_path / "hf")
    text = VisionLanguageModel(language, None, None)
    save(text, tmp_path / "text", settings={}, provenance={})
    with pytest.raises(CheckpointError, match="no image encoder"):
        export(tmp_path / "text", tmp_path / "hf")
    with pytest.raises(CheckpointError, match="no model of mmmed at"):
        export(tmp_path / "nowhere", tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_shards_precision_and_card(make_model: Make, tmp_path: Path) -> None:
    folder = keep(make_model(), tmp_path / "model")
    exported = export(folder, tmp_path / "hf", shard_gigabytes=0.0001, precision="bfloat16")
    assert len(list(exported.glob("model-*.safetensors"))) > 1
    opened_by_transformers(exported)
    config = json.loads((exported / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config["text_config"]["rope_theta"] == 10000.0
    card = (exported / "README.md").read_text()
    assert "- steps: `3`" in card
    assert "- data: not reported" in card
    assert json.loads((exported / "generation_config.json").read_text())["do_sample"] is False
    with pytest.raises(OutputError, match="exists already"):
        export(folder, tmp_path / "hf")


def test_tied_weights_that_differ_are_refused(make_llava: Make, hub_folder: Make, tmp_path: Path) -> None:
    def other(state: dict[str, torch.Tensor]) -> None:
        state["language_model.lm_head.weight"] = torch.ones(448, 32)

    folder = hub_folder(make_llava(tie_word_embeddings=True), change=other)
    with pytest.raises(CheckpointError, match="differ, and the configuration says that they are one"):
        import_(folder, tmp_path / "ours")
    same = load_file(folder / "model.safetensors")
    same["language_model.lm_head.weight"] = same["language_model.model.embed_tokens.weight"].clone()
    save_file(same, folder / "model.safetensors")
    assert "language.model.lm_head.weight" not in load_file(import_(folder, tmp_path / "o2") / "model.safetensors")


ALONE = """
import json, sys
sys.modules["mmmed"] = None  # importing it fails, however it is installed
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
model = LlavaForConditionalGeneration.from_pretrained({folder!r}, dtype=torch.float32).eval()
processor = AutoProcessor.from_pretrained({folder!r})
picture = Image.open({picture!r})
parts = [{{"type": "image", "image": picture}}, {{"type": "text", "text": {question!r}}}]
asked = [{{"role": "user", "content": parts}}]
inputs = processor.apply_chat_template(
    asked, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
ids = model.generate(**inputs, max_new_tokens=8)
print(json.dumps(processor.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True).strip()))
"""


@pytest.mark.slow
def test_an_export_answers_where_there_is_no_mmmed(make_model: Make, examples: list[Example], tmp_path: Path) -> None:
    folder = keep(make_model(initializer_range=0.3), tmp_path / "model", system="Be brief.")
    exported = export(folder, tmp_path / "hf")
    picture = tmp_path / "film.png"
    (asked, _) = films(examples)
    asked.images[0].open().convert("RGB").save(picture)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(exported, elsewhere)
    code = ALONE.format(folder=str(elsewhere), picture=str(picture), question=asked.question)
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (answer,) = open_session(folder, device="cpu").write([asked], max_new_tokens=8)
    assert json.loads(done.stdout.strip().splitlines()[-1]) == answer.text
    assert answer.text
