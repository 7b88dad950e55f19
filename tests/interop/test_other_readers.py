"""Checkpoints that are not LLaVA's: a projector alone, Prismatic, nanoVLM."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmmed.data.collate import pad
from mmmed.errors import CheckpointError
from mmmed.inference.session import open_session
from mmmed.interop import other_readers
from mmmed.interop.importing import import_
from mmmed.models import projector
from mmmed.models.encoders.timm import TimmEncoder
from mmmed.models.folder import load, save
from mmmed.models.projector import LinearProjector
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor
from mmmed.records import Example

Make = Callable[..., Any]


def keep(model: VisionLanguageModel, folder: Path) -> Path:
    Processor(model.language.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image)
    save(model, folder, settings={"system": "Be brief.", "max_length": 512}, provenance={"steps": 1})
    return folder


def test_minigpt4s_projector_goes_into_a_model_of_its_shape(make_model: Make, tmp_path: Path) -> None:
    plain = make_model()
    base = keep(VisionLanguageModel(plain.language, plain.vision, LinearProjector), tmp_path / "base")
    weights = {"llama_proj.weight": torch.randn(32, 32), "llama_proj.bias": torch.randn(32)}
    file = tmp_path / "pretrained_minigpt4.pth"
    torch.save({"model": weights, "optimizer": {}, "epoch": 3}, file)
    opened = load(import_(file, tmp_path / "ours", base=str(base)))
    assert torch.equal(opened.model.projector.linear.weight, weights["llama_proj.weight"])
    assert opened.settings["system"] == "Be brief."
    before, after = load(base).model.state_dict(), opened.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if not name.startswith("projector."))
    with pytest.raises(CheckpointError, match="holds a projector alone; give --base"):
        import_(file, tmp_path / "other")
    wide = {"llama_proj.weight": torch.randn(32, 768), "llama_proj.bias": torch.randn(32)}
    torch.save({"model": wide}, file)
    with pytest.raises(CheckpointError, match=r"1 of another shape \(projector\.linear\.weight \(32, 768\)"):
        import_(file, tmp_path / "other", base=str(base))


def test_llavas_projector_file_goes_into_a_model_with_an_mlp(make_model: Make, tmp_path: Path) -> None:
    base = keep(make_model(), tmp_path / "base")
    made = make_model(seed=5).projector.state_dict()
    state = {
        f"model.mm_projector.{ {'linear_1': 0, 'linear_2': 2}[name.split('.')[0]] }.{name.split('.')[1]}": tensor
        for name, tensor in made.items()
    }
    torch.save(state, tmp_path / "mm_projector.bin")
    opened = load(import_(tmp_path / "mm_projector.bin", tmp_path / "ours", base=str(base))).model
    assert all(torch.equal(opened.projector.state_dict()[name], tensor) for name, tensor in made.items())


def language_folder(model: VisionLanguageModel, folder: Path) -> Path:
    """Configuration and tokenizer of a language model, as `--language` names them."""
    model.language.tokenizer.save_pretrained(folder)
    model.language.model.config.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("holds_vision", [True, False])
def test_a_prismatic_run_is_the_model_it_was_made_of(
    make_model: Make,
    examples: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    holds_vision: bool,
) -> None:
    import timm

    monkeypatch.setitem(other_readers.PRISMATIC_ENCODERS, "clip-vit-l", "vit_tiny_patch16_224")
    torch.manual_seed(0)
    whole = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0)
    text = make_model(vision=False, initializer_range=0.3)
    mlp = projector.MLPProjector(192, 32)
    llm = {f"llm.{name}": tensor for name, tensor in text.language.model.state_dict().items()}
    heads = {
        f"projector.{2 * int(name[7]) - 2}.{name.split('.')[1]}": value for name, value in mlp.state_dict().items()
    }
    state: dict[str, Any] = {"projector": heads, "llm_backbone": llm}
    if holds_vision:
        state["vision_backbone"] = {f"featurizer.{name}": tensor for name, tensor in whole.state_dict().items()}
    else:
        save_file(dict(whole.state_dict()), tmp_path / "vit.safetensors")
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    torch.save({"model": state, "optimizer": {}}, run / "checkpoints" / "latest-checkpoint.pt")
    described = {
        "vision_backbone_id": "clip-vit-l",
        "llm_backbone_id": "vicuna-v15-7b",
        "image_resize_strategy": "letterbox",
    }
    (run / "config.json").write_text(json.dumps({"model": described}))
    language = language_folder(text, tmp_path / "language")
    vision = None if holds_vision else str(tmp_path / "vit.safetensors")
    if not holds_vision:
        with pytest.raises(CheckpointError, match=r"holds no image encoder .*; give --vision"):
            import_(run, tmp_path / "ours", language=str(language))
    session = open_session(import_(run, tmp_path / "ours", vision=vision, language=str(language)), device="cpu")
    assert isinstance(session.model.vision, TimmEncoder)
    assert session.model.transform.fit == "pad"
    ids = session.processor.question(examples[0]).ids
    said = session.processor.prompt.tokenizer.decode(ids)
    assert said.startswith("<s><image>"), "images come right after the beginning"
    assert said.endswith("USER: Is there a pleural effusion? ASSISTANT:")
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        (features,) = whole.eval().get_intermediate_layers(pixels, n={len(whole.blocks) - 2})
        torch.testing.assert_close(session.model.see(pixels), mlp(features), atol=1e-5, rtol=1e-5)
    assert "vision.model.norm.weight" in load_file(tmp_path / "ours" / "unread.safetensors")


NANO = {
    "vit_hidden_dim": 32,
    "vit_inter_dim": 64,
    "vit_patch_size": 8,
    "vit_img_size": 32,
    "vit_n_heads": 2,
    "vit_n_blocks": 2,
    "vit_ln_eps": 1e-6,
    "vit_cls_flag": False,
    "lm_hidden_dim": 32,
    "lm_inter_dim": 64,
    "lm_rms_eps": 1e-5,
    "lm_re_base": 10000,
    "lm_max_position_embeddings": 512,
    "lm_vocab_size": 420,
    "lm_n_heads": 4,
    "lm_n_kv_heads": 2,
    "lm_n_blocks": 2,
    "lm_tie_weights": True,
    "lm_tokenizer": "HuggingFaceTB/cosmo2-tokenizer",
    "mp_pixel_shuffle_factor": 2,
}


def nano_state() -> tuple[dict[str, Tensor], Any, Any, Tensor]:
    """Tensors by nanoVLM's names, with the encoder, decoder and projection of transformers that they are."""
    from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    seen = SiglipVisionModel(
        SiglipVisionConfig(**sizes, num_attention_heads=2, image_size=32, patch_size=8, vision_use_head=False)
    ).eval()
    said = LlamaForCausalLM(
        LlamaConfig(
            **sizes, num_attention_heads=4, num_key_value_heads=2, vocab_size=420, tie_word_embeddings=True,
            rms_norm_eps=1e-5, max_position_embeddings=512, initializer_range=0.3,
        )
    ).eval()  # fmt: skip
    vision, text = seen.state_dict(), said.state_dict()
    state = {
        "vision_encoder.patch_embedding.conv.weight": vision["embeddings.patch_embedding.weight"],
        "vision_encoder.patch_embedding.conv.bias": vision["embeddings.patch_embedding.bias"],
        "vision_encoder.patch_embedding.position_embedding": vision["embeddings.position_embedding.weight"][None],
        "vision_encoder.layer_norm.weight": vision["post_layernorm.weight"],
        "vision_encoder.layer_norm.bias": vision["post_layernorm.bias"],
        "MP.proj.weight": torch.randn(32, 4 * 32),
        "decoder.head.weight": text["model.embed_tokens.weight"],
        "decoder.norm.weight": text["model.norm.weight"],
        "decoder.rotary_embd.inv_freq": torch.ones(4),
    }
    for block in range(2):
        theirs, ours = f"vision_encoder.blocks.{block}", f"encoder.layers.{block}"
        for kind in ("weight", "bias"):
            parts = [vision[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            state[f"{theirs}.attn.qkv_proj.{kind}"] = torch.cat(parts)
            state[f"{theirs}.attn.out_proj.{kind}"] = vision[f"{ours}.self_attn.out_proj.{kind}"]
            for number in "12":
                state[f"{theirs}.ln{number}.{kind}"] = vision[f"{ours}.layer_norm{number}.{kind}"]
                state[f"{theirs}.mlp.fc{number}.{kind}"] = vision[f"{ours}.mlp.fc{number}.{kind}"]
        theirs, ours = f"decoder.blocks.{block}", f"model.layers.{block}"
        for part in "qkv":
            state[f"{theirs}.attn.{part}_proj.weight"] = text[f"{ours}.self_attn.{part}_proj.weight"]
        state[f"{theirs}.attn.out_proj.weight"] = text[f"{ours}.self_attn.o_proj.weight"]
        for part in ("gate", "up", "down"):
            state[f"{theirs}.mlp.{part}_proj.weight"] = text[f"{ours}.mlp.{part}_proj.weight"]
        state[f"{theirs}.norm1.weight"] = text[f"{ours}.input_layernorm.weight"]
        state[f"{theirs}.norm2.weight"] = text[f"{ours}.post_attention_layernorm.weight"]
    return {name: tensor.clone() for name, tensor in state.items()}, seen, said, state["MP.proj.weight"]


def nano_folder(folder: Path, state: dict[str, Tensor], **config: Any) -> Path:
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(NANO | config))
    return folder


@pytest.mark.skipif(not hasattr(projector, "PixelShuffle"), reason="there is no pixel shuffle projector")
def test_a_nanovlm_is_siglip_shuffle_and_llama(make_model: Make, examples: list[Example], tmp_path: Path) -> None:
    state, seen, said, projection = nano_state()
    folder = nano_folder(tmp_path / "nano", state)
    language = language_folder(make_model(vision=False), tmp_path / "language")
    session = open_session(import_(folder, tmp_path / "ours", language=str(language)), device="cpu")
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        grid = seen(pixels).last_hidden_state.reshape(1, 2, 2, 2, 2, 32).permute(0, 1, 3, 2, 4, 5)
        shuffled = grid.reshape(1, 4, 128) @ projection.T
        torch.testing.assert_close(session.model.see(pixels), shuffled, atol=1e-5, rtol=1e-5)
        ids = torch.arange(20)[None]
        ours = session.model.language.model(ids).logits
        torch.testing.assert_close(ours, said(ids).logits, atol=1e-5, rtol=1e-5)
        batch = pad([session.processor.question(examples[0])], image_id=session.processor.image_id)
        assert session.model(batch).isfinite().all()
    assert batch.is_image_BT[0, :4].all(), "images come first"
    text = session.processor.prompt.tokenizer.decode(batch.ids_BT[0, 4:])
    assert text == "Question: Is there a pleural effusion? Answer:"


def test_a_nanovlm_with_tiles_or_without_tokenizer_is_refused(tmp_path: Path) -> None:
    state = nano_state()[0]
    with pytest.raises(CheckpointError, match="cuts images of up to 64 pixels into tiles of 32"):
        import_(nano_folder(tmp_path / "tiles", state, max_img_size=64), tmp_path / "ours")
    with pytest.raises(CheckpointError, match="has no tokenizer; give --language"):
        import_(nano_folder(tmp_path / "alone", state), tmp_path / "ours")
