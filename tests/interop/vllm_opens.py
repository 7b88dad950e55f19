"""Opens an exported folder with vLLM's own configuration, processor, model and weight loader, on a CPU.

Run by test_vllm.py in an environment that has vLLM: `python vllm_opens.py FOLDER INPUTS.safetensors FILM.png OUTPUT`.
It goes as far as vLLM does without its compiled operations: to the weights of every layer and the image tokens. The
language model's attention is compiled, so it is filled here and not run.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from vllm.config import CompilationConfig, DeviceConfig, LoadConfig, ModelConfig, VllmConfig, set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.utils import get_model_architecture
from vllm.multimodal import MULTIMODAL_REGISTRY

TEXT = "USER: <image>\nIs there a pleural effusion? ASSISTANT:"


class NotCompiled:
    """Stands for vLLM's compiled operations, which layers name when they are made; none of them may be run."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*given: Any, **named: Any) -> None:
            raise RuntimeError(f"{name} is compiled, and not here")

        return refuse


def main(folder: str, inputs: str, film: str, output: str) -> None:
    """Write what vLLM made of the folder: image tokens and weights (safetensors), and what it said (JSON)."""
    chosen = ModelConfig(model=folder, tokenizer=folder, dtype="float32", seed=0, max_model_len=256, enforce_eager=True)
    config = VllmConfig(
        model_config=chosen,
        device_config=DeviceConfig(device="cpu"),
        load_config=LoadConfig(load_format="safetensors"),
        compilation_config=CompilationConfig(mode=0, custom_ops=["none"]),
    )
    given = load_file(inputs)
    with set_current_vllm_config(config):
        place = f"file://{tempfile.mkdtemp()}/store"
        init_distributed_environment(1, 0, place, 0, backend="gloo")
        initialize_model_parallel(1, 1)
        processor = MULTIMODAL_REGISTRY.create_processor(chosen)
        read = processor(TEXT, mm_items=processor.info.parse_mm_data({"image": Image.open(film)}))
        kind, name = get_model_architecture(chosen)
        torch.ops._C = NotCompiled()
        model = kind(vllm_config=config, prefix="").eval()
        loader = DefaultModelLoader(config.load_config)
        loaded = model.load_weights(loader.get_all_weights(chosen, model))
        state = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
        for part in (model.vision_tower, model.multi_modal_projector):
            for layer in part.modules():
                if isinstance(method := getattr(layer, "quant_method", None), QuantizeMethodBase):
                    method.process_weights_after_loading(layer)
        with torch.inference_mode():
            seen = model.embed_multimodal(pixel_values=given["pixels_NCHW"])
    said = {
        "architecture": name,
        "class": f"{kind.__module__}.{kind.__name__}",
        "text": TEXT,
        "ids": list(read["prompt_token_ids"]),
        "left_unfilled": sorted(state.keys() - loaded),
    }
    save_file(state | {"seen_NKD": torch.stack(list(seen))}, Path(output) / "vllm.safetensors")
    (Path(output) / "vllm.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
