"""GGUF files say to their readers what the model says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmmed
from mmmed.errors import CheckpointError
from mmmed.interop.export import export
from mmmed.interop.vocabulary import vocabulary_of
from mmmed.models.folder import load, save
from mmmed.models.language import CausalLanguageModel
from mmmed.models.projector import LinearProjector, MLPProjector
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor

Make = Callable[..., Any]


def keep(model: VisionLanguageModel, folder: Path) -> Path:
    Processor(model.language.tokenizer, transform=model.transform, tokens_per_image=model.tokens_per_image)
    save(model, folder, settings={"system": None, "max_length": 512}, provenance={})
    return folder


@pytest.mark.parametrize(
    "settings", [{}, {"tie_word_embeddings": True}, {"model_type": "qwen2"}, {"vocab_size": 393}], ids=str
)
def test_the_language_model_read_back_gives_the_same_logits(
    make_model: Make, tokenizer_folder: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = make_model(initializer_range=0.3)
    if settings.get("model_type") == "qwen2":
        config = {**model.language.recipe()["init_args"]["config"], "model_type": "qwen2"}
        del config["head_dim"]
        language = CausalLanguageModel(None, config=config, tokenizer=str(tokenizer_folder))
        model = VisionLanguageModel(language, model.vision, MLPProjector).eval()
    else:
        model = make_model(initializer_range=0.3, **settings)
    folder = export(keep(model, tmp_path / "model"), tmp_path / "tiny", format="gguf")
    again = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file="tiny.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    ids = torch.randint(0, 390, (2, 11), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = model.language.model(ids).logits, again(ids).logits
    torch.testing.assert_close(theirs[..., : ours.shape[-1]], ours, atol=1e-5, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="tiny.gguf")
    text = "Is there a pleural effusion on this film? yes\n<|im_end|>"
    assert tokenizer(text)["input_ids"] == model.language.tokenizer(text)["input_ids"]


def test_the_file_itself_is_asked_like_any_checkpoint(
    make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMMED_CACHE", str(tmp_path / "cache"))
    model = make_model(initializer_range=0.3)
    folder = export(keep(model, tmp_path / "model"), tmp_path / "tiny", format="gguf")
    session = mmmed.load(folder / "tiny.gguf", device="cpu")
    ids = torch.randint(0, 390, (1, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, found = model.language.model(ids).logits, session.model.language.model(ids).logits
    torch.testing.assert_close(found[..., : ours.shape[-1]], ours, atol=1e-5, rtol=0)


def test_mmproj_holds_encoder_and_projector_by_llama_cpps_names(make_model: Make, tmp_path: Path) -> None:
    import gguf

    model = make_model()
    folder = export(keep(model, tmp_path / "model"), tmp_path / "tiny", format="gguf")
    reader = gguf.GGUFReader(folder / "mmproj-tiny.gguf")
    facts = {name: field.contents() for name, field in reader.fields.items()}
    assert facts["general.architecture"] == "clip"
    assert facts["clip.projector_type"] == "mlp"
    assert facts["clip.vision.block_count"] == 3
    assert facts["clip.vision.feature_layer"] == [2]
    assert facts["clip.vision.image_mean"] == pytest.approx(model.transform.mean)
    assert facts["clip.use_gelu"] is False, "CLIP has the quick GELU"
    tensors = {tensor.name: np.asarray(tensor.data) for tensor in reader.tensors}
    state = model.state_dict()
    layers = "vision.model.encoder.layers"
    same = {
        "v.class_embd": "vision.model.embeddings.class_embedding",
        "v.patch_embd.weight": "vision.model.embeddings.patch_embedding.weight",
        "v.position_embd.weight": "vision.model.embeddings.position_embedding.weight",
        "v.pre_ln.bias": "vision.model.pre_layrnorm.bias",
        "v.blk.1.attn_q.weight": f"{layers}.1.self_attn.q_proj.weight",
        "v.blk.1.attn_out.bias": f"{layers}.1.self_attn.out_proj.bias",
        "v.blk.0.ln2.weight": f"{layers}.0.layer_norm2.weight",
        "v.blk.0.ffn_up.weight": f"{layers}.0.mlp.fc1.weight",
        "v.blk.0.ffn_down.weight": f"{layers}.0.mlp.fc2.weight",
        "mm.0.weight": "projector.linear_1.weight",
        "mm.2.bias": "projector.linear_2.bias",
    }
    for theirs, ours in same.items():
        assert np.array_equal(tensors[theirs], state[ours].numpy()), theirs
    assert not tensors["v.blk.2.ffn_down.weight"].any(), "a block that nothing reads"
    assert "v.post_ln.weight" not in tensors
    assert len(tensors) == 5 + 3 * 16 + 4


def test_half_precision_keeps_vectors_whole(make_model: Make, tmp_path: Path) -> None:
    import gguf

    folder = keep(make_model(), tmp_path / "model")
    for precision, kind in (("float16", "F16"), ("bfloat16", "BF16")):
        made = export(folder, tmp_path / precision, format="gguf", precision=precision)
        kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(made / f"{precision}.gguf").tensors}
        assert kinds["blk.0.attn_q.weight"] == kind
        assert kinds["blk.0.attn_norm.weight"] == "F32"
        matrix = next(one for one in gguf.GGUFReader(made / f"{precision}.gguf").tensors if one.name == "output.weight")
        whole = load(folder).model.state_dict()["language.model.lm_head.weight"].numpy()
        read = gguf.quants.dequantize(matrix.data, matrix.tensor_type)
        assert np.allclose(read, whole, atol=1e-2)


def test_what_llama_cpp_does_not_compute_is_refused(make_model: Make, tmp_path: Path) -> None:
    class_token = keep(make_model(select="cls_patch"), tmp_path / "class")
    with pytest.raises(CheckpointError, match="drops the class token"):
        export(class_token, tmp_path / "tiny", format="gguf")
    plain = make_model()
    linear = VisionLanguageModel(plain.language, plain.vision, LinearProjector)
    with pytest.raises(CheckpointError, match="one linear layer; export to hf instead"):
        export(keep(linear, tmp_path / "linear"), tmp_path / "tiny", format="gguf")


def test_a_sentencepiece_vocabulary_merges_by_rank() -> None:
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581", "a", "b", "ab", "\u2581ab"]
    vocab = {word: index for index, word in enumerate(words)}
    merges = [("a", "b"), ("\u2581", "ab")]
    model = models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    written = vocabulary_of(tokenizer, rows=12)
    assert written.model == "llama"
    assert written.space_prefix
    assert written.tokens[8:] == ["\u2581ab", "[PAD9]", "[PAD10]", "[PAD11]"]
    assert list(written.kinds) == [2, 3, 3, 6, 1, 1, 1, 1, 1, 5, 5, 5]
    assert written.scores[7] > written.scores[8] > max(written.scores[:7])


def test_an_unknown_split_into_words_is_refused(tokenizer_folder: Path) -> None:
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    assert vocabulary_of(tokenizer, rows=500).pre == "gpt-2"
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    assert vocabulary_of(tokenizer, rows=500).merges[0] == " ".join(content["model"]["merges"][0])
    tokenizer.backend_tokenizer.pre_tokenizer = Whitespace()
    with pytest.raises(CheckpointError, match="splits words by"):
        vocabulary_of(tokenizer, rows=500)
