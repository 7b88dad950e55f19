"""What each foreign layout says about the model in it: recipe, plan of tensors, tokenizer, pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmed.errors import CheckpointError, did_you_mean
from mmmed.interop import configs, layouts
from mmmed.interop.images import transform_of
from mmmed.interop.layouts import Layout, detect
from mmmed.interop.names import Plan, Shape, moves
from mmmed.interop.prompts import NAMED, adds_tokens, from_hugging_face, with_markers
from mmmed.interop.tensors import DIGEST, TensorFiles
from mmmed.models.folder import read_content
from mmmed.models.weights import resolve
from mmmed.transforms import ImageTransform

_CLIP_COLOURS = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A foreign checkpoint, understood but not yet copied.

    Args:
        layout: Whose names the tensors have.
        recipe: Of our model.
        plan: Our tensors, by where they come from.
        shapes: Of all that can be read: the checkpoint, and the references that complete it.
        dtypes: Of the same.
        read: Gives one tensor.
        transform: How pixels are prepared.
        tokenizer: With its chat template.
        whole_vision: Names of all tensors of the encoder at full depth, as we would call them.
        checked: Tensors that are looked at and not copied, such as a second projector layer that changes nothing.
        image_id: The token id of an image, where the checkpoint says it.
        vocabulary: Rows of the vocabulary before our own export padded it.
        system: System prompt.
        provenance: What the checkpoint tells of itself.
        others: Files of references, to be closed.
    """

    layout: Layout
    recipe: Mapping[str, Any]
    plan: Plan
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, torch.dtype]
    read: Callable[[str], Tensor]
    transform: ImageTransform
    tokenizer: Any
    whole_vision: Collection[str] = ()
    checked: Collection[str] = ()
    image_id: int | None = None
    vocabulary: int | None = None
    system: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    others: ExitStack = field(default_factory=ExitStack)


def read_layout(
    layout: Layout,
    path: Path,
    files: TensorFiles,
    *,
    vision: str | None,
    language: str | None,
    base: str | None,
    template: str | None,
) -> Reading:
    """Understand a checkpoint of a known layout.

    Raises:
        CheckpointError: Its configuration, tokenizer or pixels cannot be repeated, or a reference is lacking.
    """
    if template is not None and template not in NAMED:
        raise CheckpointError(f"unknown chat template {template!r}{did_you_mean(template, NAMED)}")
    if layout == "mmmed":
        raise CheckpointError(f"{path} is a model folder of mmmed already; use it as it is")
    if layout == "hf":
        return _hugging_face(path, files, template=template)
    if layout == "llava":
        return _llava(path, files, vision=vision, template=template)
    if layout in ("minigpt4", "mm_projector"):
        return _projector(path, files, base=base)
    from mmmed.interop import other_readers

    if layout == "nanovlm":
        return other_readers.nanovlm(path, files, language=language)
    return other_readers.prismatic(path, files, vision=vision, language=language, template=template)


def _hugging_face(path: Path, files: TensorFiles, *, template: str | None) -> Reading:
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


def _llava(path: Path, files: TensorFiles, *, vision: str | None, template: str | None) -> Reading:
    raw = configs.read_json(path / "config.json")
    linear = "model.mm_projector.weight" in files.shapes
    described, processing, folder = _tower(raw, vision)
    rows = files.shapes["model.embed_tokens.weight"][0]
    recipe = configs.from_llava(raw, vision=described, vocabulary=rows, linear=linear)
    names = layouts.from_llava(files.shapes, base="model", linear=linear)
    held = any(target.startswith("vision.") for target in names.values())
    merged, others = _with_encoder(files, names, folder=None if held else folder, what=path, named=raw)
    pads = raw.get("image_aspect_ratio") == "pad"
    size = int(described["image_size"])
    settings: dict[str, Any] = {**_CLIP_COLOURS, "resample": 3, **processing}
    settings |= {"image_processor_type": "LlavaImageProcessor", "do_pad": pads, "do_center_crop": True}
    settings |= {"size": {"shortest_edge": size}}
    tokenizer = load_tokenizer(path)
    kind = recipe["language"]["init_args"]["config"]["model_type"]
    usual = "mistral_instruct" if kind == "mistral" else "vicuna_v1"
    # Of its templates, that of the language model is not the one LLaVA was trained with.
    chosen = NAMED[template or usual]
    tokenizer.chat_template = with_markers(chosen) if raw.get("mm_use_im_start_end") else chosen
    return Reading(
        layout="llava",
        recipe=recipe,
        plan=moves(merged.names),
        shapes=merged.shapes,
        dtypes=merged.dtypes,
        read=merged.read,
        transform=transform_of(settings, size=size),
        tokenizer=tokenizer,
        whole_vision=whole_vision(described),
        others=others,
    )


def _projector(path: Path, files: TensorFiles, *, base: str | None) -> Reading:
    if base is None:
        raise CheckpointError(f"{path} holds a projector alone; give --base, a model folder that it belongs in")
    folder = Path(base)
    content = read_content(folder)
    linear = content["model"]["projector"]["class_path"].endswith(".LinearProjector")
    names = layouts.from_projector(files.shapes, linear=linear)
    others = ExitStack()
    ours = others.enter_context(TensorFiles(folder))
    rest = {name: name for name in ours.shapes if not name.startswith("projector.")}
    merged = Merged({**names, **rest}, {**ours.shapes, **files.shapes}, {**ours.dtypes, **files.dtypes}, files, ours)
    shapes = {name: shape for name, shape in merged.shapes.items() if name in rest or name in files.shapes}
    transform = content["transform"]
    values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in transform.items()}
    return Reading(
        layout=detect(files.shapes, what=str(path)),
        recipe=content["model"],
        plan=moves(merged.names),
        shapes=shapes,
        dtypes=merged.dtypes,
        read=merged.read,
        transform=ImageTransform(**values),
        tokenizer=load_tokenizer(folder),
        whole_vision=[name for name in rest if name.startswith("vision.")],
        system=content["processor"].get("system"),
        provenance=content["provenance"],
        others=others,
    )


@dataclass(frozen=True, slots=True)
class Merged:
    """The checkpoint's tensors and those of a reference that completes it."""

    names: Mapping[str, str]
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, torch.dtype]
    first: TensorFiles
    second: TensorFiles | None

    def read(self, name: str) -> Tensor:
        if name in self.first.shapes or self.second is None:
            return self.first.read(name)
        return self.second.read(name)


def _with_encoder(
    files: TensorFiles, names: Mapping[str, str], *, folder: Path | None, what: Path, named: Mapping[str, Any]
) -> tuple[Merged, ExitStack]:
    """Add the encoder of a reference to a checkpoint that holds none."""
    others = ExitStack()
    if any(target.startswith("vision.") for target in names.values()):
        return Merged(names, files.shapes, files.dtypes, files, None), others
    if folder is None:
        raise CheckpointError(
            f"{what} holds no image encoder; it was trained with {named.get('mm_vision_tower', 'one not named')}, "
            "so give --vision, a folder or a reference of it"
        )
    encoder = others.enter_context(TensorFiles(folder))
    # Of a two-sided model the image side alone.
    sided = any(name.startswith("vision_model.") for name in encoder.shapes)
    seen = {
        name: f"vision.model.{name.removeprefix('vision_model.')}"
        for name in encoder.shapes
        if not sided or name.startswith("vision_model.")
    }
    shapes = {**{name: encoder.shapes[name] for name in seen}, **files.shapes}
    return Merged({**seen, **names}, shapes, {**encoder.dtypes, **files.dtypes}, files, encoder), others


def _tower(raw: Mapping[str, Any], vision: str | None) -> tuple[dict[str, Any], dict[str, Any], Path | None]:
    """Configuration, pixel settings and folder of the encoder that a LLaVA names."""
    name = str(raw.get("mm_vision_tower", raw.get("vision_tower", "")))
    if vision is None:
        if name not in configs.KNOWN_TOWERS:
            raise CheckpointError(f"the encoder {name!r} is not described by the checkpoint; give --vision")
        return dict(configs.KNOWN_TOWERS[name]), {}, None
    folder = resolve(vision)
    described = configs.read_json(folder / "config.json")
    config = {**described.get("vision_config", described)}
    if "model_type" not in config:
        config["model_type"] = "clip_vision_model"
    settings = folder / "preprocessor_config.json"
    processing = configs.read_json(settings) if settings.is_file() else {}
    return config, {key: processing[key] for key in ("image_mean", "image_std") if key in processing}, folder


def whole_vision(config: Mapping[str, Any]) -> list[str]:
    """Names of all tensors of an encoder of transformers, by our names, whatever layer is chosen later."""
    from transformers import AutoConfig, AutoModel

    values = dict(config)
    with torch.device("meta"):
        model: Any = AutoModel.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(values.pop("model_type"), **values)
        )
    return [f"vision.model.{name.removeprefix('vision_model.')}" for name in model.state_dict()]


def base_of(config: Mapping[str, Any]) -> str:
    """What a causal language model of transformers calls its base."""
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(config)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            AutoConfig.for_model(values.pop("model_type"), **values)
        )
    return str(model.base_model_prefix)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        CheckpointError: There is none that transformers can load.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{folder} has no tokenizer that can be loaded ({reason})") from error


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
