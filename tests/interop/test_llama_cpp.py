"""llama.cpp itself reads what is exported as GGUF, and says and sees what the model does."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmmed.interop.export import export
from mmmed.models.encoders.transformers import TransformersEncoder
from mmmed.models.folder import save
from mmmed.models.projector import MLPProjector
from mmmed.models.vlm import VisionLanguageModel

OPENS = Path(__file__).with_name("llama_cpp_opens.py")
TEXT = "<|im_start|>user\nIs there a pleural effusion on this film?<|im_end|>\n<|im_start|>assistant\n"
ANSWER_TOKENS = 12
# Heads of 32, the smallest that its kernels know.
LANGUAGE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "initializer_range": 0.3,
}
# SigLIP: llama-cpp-python 0.3.36 puts CLIP's class token behind the patches (see docs/interop.md).
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.3,
}


@pytest.fixture
def llama_cpp_python() -> str:
    """The interpreter of an environment with llama-cpp-python, which has to be compiled."""
    python = os.environ.get("MMMED_LLAMA_CPP_PYTHON")
    if python is None:
        pytest.skip("no llama.cpp; set MMMED_LLAMA_CPP_PYTHON to the interpreter of an environment with its package")
    return python


@pytest.mark.slow
def test_llama_cpp_says_and_sees_what_the_model_does(
    llama_cpp_python: str, make_model: Callable[..., Any], tmp_path: Path
) -> None:
    language = make_model(vision=False, **LANGUAGE).language
    torch.manual_seed(0)
    encoder = TransformersEncoder(weights=None, config=SIGLIP, layer=-2)
    model = VisionLanguageModel(language, encoder, MLPProjector).eval()
    save(model, tmp_path / "model", settings={"system": None, "max_length": 512}, provenance={})
    exported = export(tmp_path / "model", tmp_path / "tiny", format="gguf")
    picture_HWC = torch.randint(0, 256, (32, 32, 3))
    given = {"text": TEXT, "answer_tokens": ANSWER_TOKENS, "picture": picture_HWC.tolist()}
    (tmp_path / "inputs.json").write_text(json.dumps(given))
    words = [llama_cpp_python, str(OPENS), str(exported), str(tmp_path / "inputs.json"), str(tmp_path / "out.json")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    theirs = json.loads((tmp_path / "out.json").read_text())

    ids = language.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert theirs["ids"] == ids
    with torch.no_grad():
        logits_TV = language.model(torch.tensor([ids])).logits[0]
        said = language.model.generate(
            torch.tensor([ids]),
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            eos_token_id=language.tokenizer.eos_token_id,
            pad_token_id=0,
        )[0, len(ids) :]
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in (model.transform.mean, model.transform.std))
        seen_KD = model.see(((picture_HWC.permute(2, 0, 1) / 255 - mean) / std)[None])[0]
    # Its cache is in half precision, and its GELU the tanh approximation.
    torch.testing.assert_close(torch.tensor(theirs["logits"])[:, : logits_TV.shape[1]], logits_TV, atol=0.05, rtol=0)
    assert theirs["said"] == said.tolist()
    torch.testing.assert_close(torch.tensor(theirs["seen"]), seen_KD, atol=0.01 * float(seen_KD.std()), rtol=0)
