"""Export to the Hugging Face LLaVA hub layout: a folder that transformers and vLLM open without mmmed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmmed.errors import CheckpointError
from mmmed.interop.card import model_card
from mmmed.interop.configs import NESTED_VISION
from mmmed.interop.images import GREY_LEVELS, ProbeImage, image_processor_of, pixel_difference
from mmmed.interop.layouts import to_hugging_face
from mmmed.interop.names import Move, Shape, check_total
from mmmed.interop.prompts import adds_tokens, for_hugging_face, rendering
from mmmed.interop.source import ExportSource
from mmmed.interop.tensors import write_digest, write_shards
from mmmed.records import IMAGE_PLACEHOLDER, Example, Turn

Precision = Literal["keep", "float32", "bfloat16", "float16"]

ROWS_AT_ONCE = 64
"""The vocabulary is padded to a multiple of this, as llava-hf's and most serving engines have it."""

_CLASS_TOKEN = ("clip_vision_model", "dinov2")


def write_hugging_face(
    source: ExportSource, folder: Path, *, title: str, shard_bytes: int, precision: Precision
) -> None:
    """Write an opened model to a folder, which must not exist yet.

    Raises:
        CheckpointError: A tensor would be dropped or invented, or the exported processor would not do as ours does.
    """
    config = llava_config(source)
    targets = hub_shapes(config, nested=source.vision["model_type"] in NESTED_VISION)
    plan = hub_plan(source, targets, depth=config.vision_config.num_hidden_layers)
    check_total(plan, sources=source.shapes, targets=targets, what=str(source.folder))
    dtypes = _dtypes(source, plan, precision)
    folder.mkdir(parents=True)
    processor = _write_processor(source, folder)
    check_agreement(source, processor)
    written = write_shards(folder, plan, source.read, shapes=targets, dtypes=dtypes, limit=shard_bytes)
    named = {name: source.origins.get(str(move.source)) for name, move in plan.items()}
    rows = {"vocabulary": source.shapes[source.embedding][0]}
    write_digest(
        folder,
        {name: type(one)(one.shape, one.dtype, one.xxh3_128, named[name]) for name, one in written.items()},
        made_from=source.folder.name,
        layout="hf",
        notes=rows,
    )
    _write_configs(
        source,
        config,
        folder,
        dtype=source.dtypes[source.embedding] if precision == "keep" else getattr(torch, precision),
    )
    card = model_card(
        title=title,
        architecture=_facts(source),
        provenance=source.provenance,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def llava_config(source: ExportSource) -> Any:
    """Describe the model to transformers.

    Blocks behind the chosen one are not kept in training. Where they did not come along with an import, one block
    that changes nothing takes their place, so that the features are those of the last block but one, as every reader
    of LLaVA expects.
    """
    from transformers import AutoConfig, LlavaConfig

    whole = has_all_layers(source)
    vision = dict(source.vision)
    vision["num_hidden_layers"] = vision["num_hidden_layers"] if whole else source.kept_layers + 1
    if vision["model_type"] == "siglip_vision_model" and not any("vision.model.head." in one for one in source.shapes):
        vision["vision_use_head"] = False
    language = dict(source.language)
    rows = source.shapes[source.embedding][0]
    language["vocab_size"] = padded_vocabulary(rows, least=source.image_id + 1)
    tokenizer = source.processor.prompt.tokenizer
    has_class_token = vision["model_type"] in _CLASS_TOKEN
    text: Any = AutoConfig.for_model(language.pop("model_type"), **language)
    text.architectures = [type(source.model.language.get_submodule("model")).__name__]
    made: Any = LlavaConfig
    return made(
        vision_config=AutoConfig.for_model(vision.pop("model_type"), **vision),
        text_config=text,
        image_token_index=source.image_id,
        image_seq_length=source.processor.tokens_per_image,
        projector_hidden_act="linear" if source.linear else "gelu",
        vision_feature_layer=source.layer if whole else -2,
        vision_feature_select_strategy="default" if has_class_token and source.select == "patch" else "full",
        tie_word_embeddings=text.tie_word_embeddings,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["LlavaForConditionalGeneration"],
    )


def hub_shapes(config: Any, *, nested: bool) -> dict[str, Shape]:
    """Names and shapes that transformers' own LLaVA of this configuration needs, in the hub's spelling."""
    from transformers import LlavaForConditionalGeneration

    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    vision = "vision_tower.vision_model." if nested else "vision_tower."
    shapes = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        hub = re.sub(r"^model\.vision_tower\.(?:vision_model\.)?", vision, name)
        hub = re.sub(r"^model\.language_model\.", "language_model.model.", hub)
        hub = re.sub(r"^lm_head\.", "language_model.lm_head.", hub)
        shapes[hub.removeprefix("model.")] = tuple(tensor.shape)
    return shapes


def hub_plan(source: ExportSource, targets: Mapping[str, Shape], *, depth: int) -> dict[str, Move]:
    """Say of every hub tensor what it is made from."""
    nested = source.vision["model_type"] in NESTED_VISION
    plan: dict[str, Move] = {}
    for name in source.shapes:
        if name.startswith("projector.linear."):
            kind = name.rpartition(".")[2]
            plan[f"multi_modal_projector.linear_1.{kind}"] = Move(name)
            continue
        target = to_hugging_face(name, base=source.base, nested_vision=nested)
        rows, wanted = source.shapes[name][0], targets.get(target, (0,))[0]
        pads = target.endswith(("embed_tokens.weight", "lm_head.weight")) and wanted > rows
        plan[target] = Move(name, pad_rows(wanted) if pads else None)
    if source.linear:
        width = source.model.language.width
        plan["multi_modal_projector.linear_2.weight"] = Move(None, constant=lambda: torch.eye(width))
        plan["multi_modal_projector.linear_2.bias"] = Move(None, constant=lambda: torch.zeros(width))
    for target, shape in targets.items():
        if target not in plan and is_read_by_nothing(target, last=depth - 1):
            plan[target] = Move(None, constant=neutral(target, shape))
    return {target: plan[target] for target in targets if target in plan} | plan


def check_agreement(source: ExportSource, processor: Any) -> None:
    """Prove that the exported processor makes of pictures and questions what ours makes of them.

    Raises:
        CheckpointError: Pixels differ by more than rounding, or token ids differ at all.
    """
    assert source.processor.transform is not None
    worst = pixel_difference(source.processor.transform, processor.image_processor)
    if worst > GREY_LEVELS:
        raise CheckpointError(
            f"the exported image processor gives pixels up to {worst:.1f} grey values off ours; this transform "
            f"({source.processor.transform}) cannot be written for transformers"
        )
    question, probe = "Is there a pleural effusion?", ProbeImage(source.processor.transform.size)
    example = Example(
        id="probe", patient="", turns=(Turn("user", f"{IMAGE_PLACEHOLDER}\n{question}"),), images=(probe,)
    )
    ours = source.processor.question(example).ids.tolist()
    content = [{"type": "image", "image": probe.open()}, {"type": "text", "text": question}]
    asked = [{"role": "user", "content": content}]
    theirs = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=True)
    if list(theirs["input_ids"][0]) != ours:
        raise CheckpointError(
            f"the exported chat template and tokenizer give {len(theirs['input_ids'][0])} token ids where ours give "
            f"{len(ours)}, or others; this template cannot be written for transformers"
        )


def _write_processor(source: ExportSource, folder: Path) -> Any:
    from transformers import AutoProcessor, AutoTokenizer, LlavaProcessor

    ours = source.processor.prompt.tokenizer
    ours.save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.chat_template = for_hugging_face(str(ours.chat_template), system=source.processor.system)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # Ours is tokenised as the template renders it; a tokenizer that adds tokens of its own would change the prompt,
    # unless the template begins with the token that transformers then leaves out.
    begins = tokenizer.bos_token and rendering(tokenizer, tokenizer.chat_template, [Turn("user", "x")]).startswith(
        tokenizer.bos_token
    )
    if not begins and adds_tokens(tokenizer):
        tokenizer.add_bos_token = tokenizer.add_eos_token = False
        tokenizer.backend_tokenizer.post_processor = None
    has_class_token = source.vision["model_type"] in _CLASS_TOKEN
    assert source.processor.transform is not None
    processor: Any = LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=image_processor_of(source.processor.transform),
        tokenizer=tokenizer,
        patch_size=int(source.vision["patch_size"]),
        vision_feature_select_strategy="default" if has_class_token and source.select == "patch" else "full",
        num_additional_image_tokens=int(has_class_token),
        chat_template=tokenizer.chat_template,
    )
    processor.save_pretrained(folder)
    # transformers 4 reads it from a file of its own.
    processor.image_processor.save_pretrained(folder)
    return AutoProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]


def _write_configs(source: ExportSource, config: Any, folder: Path, *, dtype: torch.dtype) -> None:
    from transformers import GenerationConfig

    content = config.to_dict()
    content["dtype"] = str(dtype).removeprefix("torch.")
    for part in (content["vision_config"], content["text_config"]):
        part.pop("dtype", None)
    rope = content["text_config"].get("rope_parameters") or {}
    if rope.get("rope_type") == "default":
        content["text_config"]["rope_theta"] = rope["rope_theta"]  # where transformers 4 looks for it
    (folder / "config.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer = source.processor.prompt.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=pad,
    ).save_pretrained(folder)


def has_all_layers(source: ExportSource) -> bool:
    last = int(source.vision["num_hidden_layers"]) - 1
    return any(
        re.search(rf"\.layers?\.{last}\.", name) for name in source.shapes if name.startswith("vision.")
    ) and any(re.fullmatch(r"vision\.model\.(post_)?layernorm\.weight", name) for name in source.shapes)


def is_read_by_nothing(target: str, *, last: int) -> bool:
    """Tell the hub tensors that no feature passes through: the last block, the final norm, DINOv2's mask token."""
    inside = target.removeprefix("vision_tower.").removeprefix("vision_model.")
    if inside == target:
        return False
    return bool(re.match(rf"(encoder\.layers?\.{last}\.|post_layernorm\.|layernorm\.|embeddings\.mask_token$)", inside))


def neutral(target: str, shape: Shape) -> Callable[[], Tensor]:
    """A block of these changes nothing: what it adds to its input is zero. Norms are one and zero."""
    ones = re.search(r"norm\d?\.weight$", target) is not None
    return lambda: torch.ones(shape) if ones else torch.zeros(shape)


def pad_rows(rows: int) -> Callable[[Tensor], Tensor]:
    """Add rows that are the mean of all, whose logit is the mean logit and so never the highest."""

    def padded(matrix: Tensor) -> Tensor:
        mean = matrix.float().mean(0, keepdim=True).to(matrix.dtype)
        return torch.cat([matrix, mean.expand(rows - len(matrix), -1)])

    return padded


def padded_vocabulary(rows: int, *, least: int) -> int:
    return rows if rows >= least else -(-least // ROWS_AT_ONCE) * ROWS_AT_ONCE


def _dtypes(source: ExportSource, plan: Mapping[str, Move], precision: Precision) -> dict[str, torch.dtype]:
    most = source.dtypes[source.embedding]
    if precision != "keep":
        return dict.fromkeys(plan, getattr(torch, precision))
    return {name: most if move.source is None else source.dtypes[move.source] for name, move in plan.items()}


def _facts(source: ExportSource) -> dict[str, Any]:
    return {
        "image_encoder": source.vision["model_type"],
        "image_size": source.processor.transform.size if source.processor.transform else None,
        "tokens_per_image": source.processor.tokens_per_image,
        "features": f"layer {source.layer} of {source.vision['num_hidden_layers']}, {source.select}",
        "projector": "linear" if source.linear else "MLP of two layers with GELU",
        "language_model": source.language["model_type"],
        "parameters": sum(int(torch.Size(shape).numel()) for shape in source.shapes.values()),
    }
