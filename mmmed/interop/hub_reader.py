"""Reader of Hugging Face's LLaVA, in any of its three spellings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmmed.errors import CheckpointError
from mmmed.interop import configs, layouts
from mmmed.interop.images import transform_of
from mmmed.interop.names import moves
from mmmed.interop.prompts import NAMED, adds_tokens, from_hugging_face
from mmmed.interop.reading import Reading, load_tokenizer, whole_vision
from mmmed.interop.tensors import DIGEST, TensorFiles


def hugging_face(path: Path, files: TensorFiles, *, template: str | None) -> Reading:
    """Understand a Hugging Face folder.

    Raises:
        CheckpointError: Its configuration, template or pixels cannot be repeated.
    """
    raw = configs.read_json(path / "config.json")
    second = next((name for name in files.shapes if name.endswith("multi_modal_projector.linear_2.weight")), None)
    linear = raw.get("projector_hidden_act") == "linear" and second is not None and _is_identity(files, second)
    tied = _duplicate_head(files, tied=_is_tied(raw))
    recipe = configs.from_hugging_face(raw, linear=linear)
    vocabulary = _vocabulary_before_export(path, files)
    arguments = recipe["language"]["init_args"]
    if vocabulary is not None:
        arguments["config"]["vocab_size"] = vocabulary
    prefix = base_of(arguments["config"])
    names = layouts.from_hugging_face(files.shapes, base=prefix, linear=linear)
    checked = {*tied, *([name for name in files.shapes if ".linear_2." in name] if linear else [])}
    processing = _image_settings(path)
    tokenizer = load_tokenizer(path)
    given = NAMED[template] if template else _template(path, tokenizer)
    tokenizer.chat_template = from_hugging_face(tokenizer, given, adds_beginning=adds_tokens(tokenizer))
    config = recipe["vision"]["init_args"]["config"]
    return Reading(
        layout="hf",
        recipe=recipe,
        plan=moves({name: target for name, target in names.items() if name not in checked}),
        shapes=files.shapes,
        dtypes=files.dtypes,
        read=files.read,
        transform=transform_of(processing, size=int(config["image_size"])),
        tokenizer=tokenizer,
        whole_vision=whole_vision(config),
        checked=checked,
        image_id=raw.get("image_token_index", raw.get("image_token_id")),
        vocabulary=vocabulary,
    )


def base_of(config: Mapping[str, Any]) -> str:
    """What a causal language model of transformers calls its base."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(config)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(values.pop("model_type"), **values)
        )
    return str(model.base_model_prefix)


def _template(path: Path, tokenizer: Any) -> str:
    if tokenizer.chat_template:
        return str(tokenizer.chat_template)
    for name, key in (("chat_template.jinja", None), ("chat_template.json", "chat_template")):
        file = path / name
        if file.is_file():
            return str(configs.read_json(file)[key]) if key else file.read_text(encoding="utf-8")
    raise CheckpointError(f"{path} has no chat template; give --template, one of {', '.join(NAMED)}")


def _image_settings(path: Path) -> dict[str, Any]:
    own = path / "preprocessor_config.json"
    if own.is_file():
        return configs.read_json(own)
    together = path / "processor_config.json"
    settings: dict[str, Any] = configs.read_json(together).get("image_processor", {}) if together.is_file() else {}
    if not settings:
        raise CheckpointError(f"{path} does not say how pixels are prepared; it needs preprocessor_config.json")
    return settings


def _is_tied(raw: Mapping[str, Any]) -> bool:
    return bool(raw.get("tie_word_embeddings") or raw.get("text_config", {}).get("tie_word_embeddings"))


def _duplicate_head(files: TensorFiles, *, tied: bool) -> list[str]:
    """Name the head that a file of tied weights holds a second time, having made sure that it is the same."""
    head = next((name for name in files.shapes if name.endswith("lm_head.weight")), None)
    words = next((name for name in files.shapes if name.endswith("embed_tokens.weight")), None)
    if not tied or head is None or words is None:
        return []
    if not torch.equal(files.read(head), files.read(words)):
        raise CheckpointError(
            f"{head} and {words} differ, and the configuration says that they are one (tie_word_embeddings); mend it"
        )
    return [head]


def _is_identity(files: TensorFiles, name: str) -> bool:
    weight, bias = files.read(name), files.read(name.replace(".weight", ".bias"))
    return weight.shape[0] == weight.shape[1] and bool(
        torch.equal(weight, torch.eye(len(weight), dtype=weight.dtype)) and not bias.any()
    )


def _vocabulary_before_export(path: Path, files: TensorFiles) -> int | None:
    """Rows of the vocabulary before our export padded it, if the added rows are still as they were written."""
    digest = path / DIGEST
    rows = configs.read_json(digest).get("vocabulary") if digest.is_file() else None
    words = next((name for name in files.shapes if name.endswith("embed_tokens.weight")), None)
    if rows is None or words is None or files.shapes[words][0] <= rows:
        return None
    for name in (words, *(one for one in files.shapes if one.endswith("lm_head.weight"))):
        matrix = files.read(name)
        mean = matrix[:rows].float().mean(0, keepdim=True).to(matrix.dtype)
        if not torch.allclose(matrix[rows:], mean.expand(len(matrix) - rows, -1), rtol=1e-3, atol=1e-6):
            return None
    return int(rows)
