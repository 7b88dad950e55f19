"""Tiny random LLaVAs as transformers builds them, and the folders that other projects would make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.3,
}
PARTS_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

State = dict[str, Tensor]


def hub_state(model: Any) -> State:
    """A LLaVA's tensors by the names of the hub, as llava-hf has them."""
    state = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("model.vision_tower.", "vision_tower.vision_model.")
        name = name.replace("model.language_model.", "language_model.model.")
        name = name.replace("lm_head.", "language_model.lm_head.").removeprefix("model.")
        state[name] = tensor.clone()
    if model.config.tie_word_embeddings:
        del state["language_model.lm_head.weight"]
    return state


@pytest.fixture
def make_llava(tokenizer_folder: Path) -> Callable[..., Any]:
    """Makes `LlavaForConditionalGeneration` with random weights and vocabulary for the tests' tokenizer."""
    from transformers import (
        AutoTokenizer,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        SiglipVisionConfig,
    )

    def make(*, vision: str = "clip", strategy: str = "default", layer: int = -2, seed: int = 0, **text: Any) -> Any:
        torch.manual_seed(seed)
        tower = CLIPVisionConfig(**VISION) if vision == "clip" else SiglipVisionConfig(**VISION, vision_use_head=False)
        patches = (VISION["image_size"] // VISION["patch_size"]) ** 2
        config = LlavaConfig(
            vision_config=tower,
            text_config=LlamaConfig(**LLAMA, vocab_size=448, **text),
            image_token_index=len(AutoTokenizer.from_pretrained(tokenizer_folder)),
            vision_feature_layer=layer,
            vision_feature_select_strategy=strategy,
            image_seq_length=patches + (vision == "clip" and strategy == "full"),
        )
        model = LlavaForConditionalGeneration(config).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                torch.nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.2)
        return model

    return make


@pytest.fixture
def hub_folder(tokenizer_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a LLaVA as a folder of llava-hf: hub names, LLaVA's processor, a template of parts."""
    from transformers import AutoTokenizer, CLIPImageProcessor, LlavaProcessor

    def write(model: Any, name: str = "hub", *, change: Callable[[State], None] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]}, replace_extra_special_tokens=False)
        assert tokenizer.convert_tokens_to_ids("<image>") == model.config.image_token_index
        clip = model.config.vision_config.model_type == "clip_vision_model"
        images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        tokenizer.chat_template = PARTS_TEMPLATE
        processor = LlavaProcessor(
            image_processor=images,
            tokenizer=tokenizer,
            patch_size=8,
            vision_feature_select_strategy=model.config.vision_feature_select_strategy,
            num_additional_image_tokens=int(clip),
            chat_template=PARTS_TEMPLATE,
        )
        processor.save_pretrained(folder)
        images.save_pretrained(folder)
        state = hub_state(model)
        if change is not None:
            change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        model.config.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def llava_folder(tokenizer_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a LLaVA as the original project does: its names, its configuration, PyTorch files in two shards."""
    from transformers import AutoTokenizer

    def write(
        model: Any,
        name: str = "llava",
        *,
        holds_vision: bool = True,
        linear: bool = False,
        change: Callable[[State], None] | None = None,
        **config: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
        state = original_state(model, holds_vision=holds_vision, linear=linear)
        if change is not None:
            change(state)
        names = sorted(state)
        shards = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
        for file, held in shards.items():
            torch.save({one: state[one] for one in held}, folder / file)
        index = {"weight_map": {one: file for file, held in shards.items() for one in held}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        text = model.config.text_config
        written = {
            "model_type": "llava_llama",
            "mm_vision_tower": "openai/clip-vit-large-patch14-336",
            "mm_vision_select_layer": model.config.vision_feature_layer,
            "mm_projector_type": "linear" if linear else "mlp2x_gelu",
            "image_aspect_ratio": "pad",
            "vocab_size": text.vocab_size,
            "rms_norm_eps": text.rms_norm_eps,
            **{key: LLAMA[key] for key in LLAMA},
        }
        (folder / "config.json").write_text(json.dumps(written | config))
        return folder

    return write


def original_state(model: Any, *, holds_vision: bool = True, linear: bool = False) -> State:
    """A LLaVA's tensors by the names of the original project."""
    state = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("model.vision_tower."):
            if not holds_vision:
                continue
            name = name.replace("model.vision_tower.", "model.vision_tower.vision_tower.vision_model.")
        elif "multi_modal_projector" in name:
            if linear:
                if "linear_2" in name:
                    continue
                name = name.replace("multi_modal_projector.linear_1.", "mm_projector.")
            else:
                name = name.replace("multi_modal_projector.linear_1.", "mm_projector.0.")
                name = name.replace("multi_modal_projector.linear_2.", "mm_projector.2.")
        else:
            name = name.replace("model.language_model.", "model.")
        state[name] = tensor.clone()
    return state


@pytest.fixture
def clip_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes the encoder of a LLaVA as a folder of its own, as `--vision` names it."""

    def write(model: Any, name: str = "clip", *, weights: bool = True) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = model.config.vision_config
        (folder / "config.json").write_text(json.dumps({**config.to_dict(), "model_type": config.model_type}))
        if weights:
            prefix = "model.vision_tower."
            state = {
                f"vision_model.{key.removeprefix(prefix)}": value.clone()
                for key, value in model.state_dict().items()
                if key.startswith(prefix)
            }
            save_file(state, folder / "model.safetensors")
        return folder

    return write
