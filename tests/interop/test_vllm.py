"""vLLM's own classes open what is exported: its configuration, processor, weight loader and image tower."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor

from mmmed.interop.export import export
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.folder import save
from mmmed.models.projector import MLPProjector
from mmmed.models.vlm import VisionLanguageModel

OPENS = Path(__file__).with_name("vllm_opens.py")
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
# What the loader of vLLM 0.33.0 does with a tensor's name: parts are stacked, and what its tower has not is left out.
# Source: vllm, model_executor/models/llava.py, clip.py, siglip.py, llama.py (their `WeightsMapper`s and filters).
STACKED = {
    ".q_proj.": ".qkv_proj.",
    ".k_proj.": ".qkv_proj.",
    ".v_proj.": ".qkv_proj.",
    ".gate_proj.": ".gate_up_proj.",
    ".up_proj.": ".gate_up_proj.",
}
# Heads of 64, the smallest that vLLM's attention knows.
LANGUAGE = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.3}


def filled_by(names: Iterable[str], config: dict[str, Any]) -> set[str]:
    """The parameters of vLLM's model that tensors of these names fill."""
    blocks = config["vision_config"]["num_hidden_layers"] + config["vision_feature_layer"] + 1
    filled = set()
    for name in names:
        block = re.search(r"vision_model\.encoder\.layers\.(\d+)\.", name)
        if ".post_layernorm." in name or (block and int(block[1]) >= blocks):
            continue
        for part, stack in STACKED.items():
            name = name.replace(part, stack)
        filled.add(name)
    return filled


def parameters_of(config: dict[str, Any]) -> set[str]:
    """The parameters that vLLM 0.33.0 gives a LLaVA of this configuration, as it was seen to."""
    vision, text = config["vision_config"], config["text_config"]
    clip = vision["model_type"] == "clip_vision_model"
    both = ("weight", "bias")
    tower = {"embeddings.patch_embedding.weight", "embeddings.position_embedding.weight"}
    tower |= {"embeddings.class_embedding", "pre_layrnorm.weight", "pre_layrnorm.bias"} if clip else set()
    tower |= set() if clip else {"embeddings.patch_embedding.bias"}
    for block in range(vision["num_hidden_layers"] + config["vision_feature_layer"] + 1):
        parts = ("layer_norm1", "layer_norm2", "self_attn.qkv_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
        tower |= {f"encoder.layers.{block}.{part}.{kind}" for part in parts for kind in both}
    language = {"lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"}
    for layer in range(text["num_hidden_layers"]):
        parts = ("input_layernorm", "post_attention_layernorm", "self_attn.qkv_proj", "self_attn.o_proj")
        parts += ("mlp.gate_up_proj", "mlp.down_proj")
        language |= {f"model.layers.{layer}.{part}.weight" for part in parts}
    return {
        *(f"vision_tower.vision_model.{name}" for name in tower),
        *(f"multi_modal_projector.linear_{number}.{kind}" for number in (1, 2) for kind in both),
        *(f"language_model.{name}" for name in language),
    }


@pytest.fixture(params=["clip", "siglip"])
def model(request: pytest.FixtureRequest, make_model: Callable[..., Any]) -> Any:
    made = make_model(**LANGUAGE)
    if request.param == "siglip":
        torch.manual_seed(1)
        encoder = TransformersEncoder(weights=None, config=SIGLIP, layer=-2)
        made = VisionLanguageModel(made.language, encoder, MLPProjector).eval()
    return made


@pytest.fixture
def exported(model: Any, tmp_path: Path) -> Path:
    save(model, tmp_path / "model", settings={"system": None, "max_length": 512}, provenance={})
    return export(tmp_path / "model", tmp_path / "hf")


def test_an_export_fills_what_vllm_has_and_nothing_else(exported: Path) -> None:
    config = json.loads((exported / "config.json").read_text())
    assert filled_by(load_file(exported / "model.safetensors"), config) == parameters_of(config)
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["text_config"]["architectures"] == ["LlamaForCausalLM"]
    assert (config["image_seq_length"], config["vision_feature_select_strategy"]) == (
        16,
        "default" if config["vision_config"]["model_type"] == "clip_vision_model" else "full",
    )


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The interpreter of an environment with vLLM, which pins another torch and transformers than ours."""
    python = os.environ.get("MMMED_VLLM_PYTHON")
    if python is None:
        pytest.skip("no vLLM here; set MMMED_VLLM_PYTHON to the interpreter of an environment that has it")
    return python


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_vllm_opens_an_export_with_its_own_classes(
    vllm_python: str, model: Any, exported: Path, tmp_path: Path
) -> None:
    film = tmp_path / "film.png"
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(film)
    pixels_NCHW = torch.randn(2, 3, 32, 32)
    save_file({"pixels_NCHW": pixels_NCHW}, tmp_path / "inputs.safetensors")
    done = subprocess.run(
        [vllm_python, str(OPENS), str(exported), str(tmp_path / "inputs.safetensors"), str(film), str(tmp_path)],
        env={**os.environ, "VLLM_TARGET_DEVICE": "cpu", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said, theirs = json.loads((tmp_path / "vllm.json").read_text()), load_file(tmp_path / "vllm.safetensors")
    assert said["architecture"] == "LlavaForConditionalGeneration"
    assert said["class"] == "vllm.model_executor.models.llava.LlavaForConditionalGeneration"
    assert said["left_unfilled"] == []
    assert theirs.keys() - {"seen_NKD"} == parameters_of(json.loads((exported / "config.json").read_text()))
    ids = AutoProcessor.from_pretrained(exported)(text=said["text"], images=Image.open(film))["input_ids"][0]
    assert said["ids"] == list(ids)
    with torch.no_grad():
        seen_NKD = model.projector(model.vision(pixels_NCHW))
    torch.testing.assert_close(theirs["seen_NKD"], seen_NKD, atol=1e-4, rtol=0)
    assert seen_NKD.std() > 0.01
    layer = model.language.model.model.layers[1]
    attention, network = layer.self_attn, layer.mlp
    joined = {
        "self_attn.qkv_proj": [attention.q_proj, attention.k_proj, attention.v_proj],
        "mlp.gate_up_proj": [network.gate_proj, network.up_proj],
        "mlp.down_proj": [network.down_proj],
    }
    for name, parts in joined.items():
        expected = torch.cat([part.weight for part in parts])
        assert torch.equal(theirs[f"language_model.model.layers.1.{name}.weight"], expected), name
    rows = model.language.model.lm_head.weight
    assert torch.equal(theirs["language_model.lm_head.weight"][: len(rows)], rows)
