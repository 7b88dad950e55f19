"""Readers of the original LLaVA and LLaVA-Med, and of files that hold a projector alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmmed.errors import CheckpointError
from mmmed.interop import configs, layouts
from mmmed.interop.images import transform_of
from mmmed.interop.layouts import detect
from mmmed.interop.names import moves
from mmmed.interop.prompts import NAMED, with_markers
from mmmed.interop.reading import Merged, Reading, load_tokenizer, whole_vision
from mmmed.interop.tensors import TensorFiles
from mmmed.models.folder import read_content
from mmmed.models.weights import resolve
from mmmed.transforms import ImageTransform

_CLIP_COLOURS = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}


def llava(path: Path, files: TensorFiles, *, vision: str | None, template: str | None) -> Reading:
    """Understand an original LLaVA or LLaVA-Med.

    Raises:
        CheckpointError: Its configuration cannot be repeated, or the encoder is not given.
    """
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


def projector_alone(path: Path, files: TensorFiles, *, base: str | None) -> Reading:
    """Understand a file of a projector, to be put into a model folder of ours.

    Raises:
        CheckpointError: No model folder is given.
    """
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
