"""A trained model as a folder that needs nothing else: weights, recipe and tokenizer.

    model.json          recipe of the model, how images are prepared, settings of the processor, provenance
    model.safetensors   every tensor
    tokenizer files     as transformers writes them

The recipe names classes of this project only, so that opening a folder runs no foreign code.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmmed.errors import CheckpointError, OutputError
from mmmed.models.adaptation import is_adapter, measure_magnitudes
from mmmed.models.contrastive import ContrastiveModel
from mmmed.models.features import FrozenFeatures
from mmmed.models.four_bits import fill_four_bits, quantise_like
from mmmed.models.parts import ModelOfParts
from mmmed.models.vlm import VisionLanguageModel
from mmmed.transforms import ImageTransform

_log = logging.getLogger(__name__)

FORMAT = 1
RECIPE = "model.json"
_EXPERT = re.compile(r"(\.mixture)?\.experts\.\d+(?=\.)")
_ROUTER = re.compile(r"(\.mixture)?\.router\.weight$")
TENSORS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What the folder of a vision-language model holds.

    Args:
        model: The model, in evaluation mode.
        settings: Arguments of its processor beyond what the model itself knows.
        provenance: How it was made: configuration, data, commit, versions.
    """

    model: VisionLanguageModel
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContrastiveFolder:
    """What the folder of a contrastive model holds; the fields are those of `ModelFolder`."""

    model: ContrastiveModel
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]


def save(model: ModelOfParts, folder: Path, *, settings: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Write a model so that `load` gives it back; an older folder of this name is replaced only when all is written.

    Raises:
        OutputError: The place cannot be written.
    """
    partial_folder = folder.with_name(f".{folder.name}.tmp")
    content = {
        "format": FORMAT,
        "model": model.recipe(),
        "transform": asdict(model.transform) if model.transform is not None else None,
        "processor": dict(settings),
        "provenance": dict(provenance),
    }
    try:
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir(parents=True)
        save_file(_distinct(model.state_dict()), partial_folder / TENSORS)
        model.tokenizer.save_pretrained(partial_folder)
        (partial_folder / RECIPE).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial_folder.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial_folder, ignore_errors=True)
        raise OutputError(
            f"cannot write the model to {folder}: {error}; free space or choose another --output"
        ) from error


def load(folder: Path) -> ModelFolder:
    """Open the folder of a vision-language model, written by `save`, on the CPU.

    Raises:
        CheckpointError: It is no such folder, or its weights do not fit its recipe.
    """
    content = read_content(folder)
    if _is_contrastive(content):
        raise CheckpointError(
            f"{folder} holds a contrastive model, which answers no question; evaluate it with `mmmed zero_shot`, or "
            "name it as init_from of a stage that trains a vision-language model"
        )
    model = build(content, tokenizer=folder)
    _fill(model, folder)
    return ModelFolder(model.eval(), content["processor"], content["provenance"])


def build(content: Mapping[str, Any], *, tokenizer: Path) -> VisionLanguageModel:
    """Build the model that the content of a folder's recipe file describes, with weights still to be filled in.

    Args:
        content: As `read_content` gives it.
        tokenizer: Folder of the tokenizer.

    Raises:
        CheckpointError: The recipe asks for what is no model part of mmmed.
    """
    recipe = dict(content["model"])
    order = recipe.pop("order", None)
    parts = {name: _build(part, tokenizer) for name, part in recipe.items() if part is not None}
    model = VisionLanguageModel(
        parts["language"], parts.get("vision"), parts.get("projector"), parts.get("cross_attention"), order
    )
    if model.vision is not None:
        model.vision.transform = _transform(content["transform"])
    return model


def load_contrastive(folder: Path) -> ContrastiveFolder:
    """Open the folder of a contrastive model, written by `save`, on the CPU.

    Raises:
        CheckpointError: It is no such folder, or its weights do not fit its recipe.
    """
    content = read_content(folder)
    if not _is_contrastive(content):
        raise CheckpointError(f"{folder} holds no contrastive model; name the `model` folder of a contrastive stage")
    model: ContrastiveModel = _build(content["model"], folder)
    model.vision.transform = _transform(content["transform"])
    _fill(model, folder)
    return ContrastiveFolder(model.eval(), content["processor"], content["provenance"])


def load_weights(model: ModelOfParts, folder: Path) -> None:
    """Fill a model with the weights of a folder of the same architecture, to train it further.

    Adapters of the model begin anew where the folder has none; where it has some, they have to be the same ones. An
    order of pictures and routers that the folder does not have stay as they are, and experts that it does not have
    become copies of the network that stands in their place there. A vision-language model takes the image encoder out
    of the folder of a contrastive one, and nothing else.

    Raises:
        CheckpointError: A tensor is missing, left over or misshapen, or a text-only model is given an image encoder.
    """
    content = read_content(folder)
    if _is_contrastive(content) and isinstance(model, VisionLanguageModel):
        _fill_vision(model, folder, wrapped=content["model"]["init_args"]["vision"]["class_path"] == _FROZEN)
    else:
        _fill(model, folder, new_parts=True)


def _is_contrastive(content: Mapping[str, Any]) -> bool:
    return str(content["model"].get("class_path", "")) == _CONTRASTIVE


_CONTRASTIVE = f"{ContrastiveModel.__module__}.{ContrastiveModel.__name__}"
_FROZEN = f"{FrozenFeatures.__module__}.{FrozenFeatures.__name__}"


def read_content(folder: Path) -> dict[str, Any]:
    """Read the recipe file of a folder written by `save`.

    Raises:
        CheckpointError: It is no such folder, or of another format.
    """
    path = folder / RECIPE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder} is no model folder ({RECIPE}: {error}); name the `model` folder of a run"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not of format {FORMAT}; open it with the version of mmmed that wrote it")
    return content


def _fill(model: nn.Module, folder: Path, *, new_parts: bool = False) -> None:
    state = _state(folder)
    own = _distinct(model.state_dict())
    begins_anew = new_parts and not any(map(is_adapter, state))
    if begins_anew:
        state = quantise_like(model, _under_adapters(state, own))
        state |= {key: value for key, value in own.items() if is_adapter(key)}
    if new_parts:
        order = {key: value for key, value in own.items() if key.startswith("order.")}
        state = order | _into_experts(state, own)
    _check_fit(own, state, folder)
    model.load_state_dict(fill_four_bits(model, state), strict=False)
    if begins_anew:
        measure_magnitudes(model)


def _fill_vision(model: VisionLanguageModel, folder: Path, *, wrapped: bool) -> None:
    """Give a model the image encoder of a contrastive one; either may be `wrapped` in `FrozenFeatures`."""
    if model.vision is None:
        raise CheckpointError(
            f"{folder} holds an image encoder, and the model has none; drop init_from or vision: null"
        )
    encoder = model.vision.encoder if isinstance(model.vision, FrozenFeatures) else model.vision
    prefix = "vision.encoder." if wrapped else "vision."
    trained = {key.removeprefix(prefix): value for key, value in _state(folder).items() if key.startswith(prefix)}
    _check_fit(encoder.state_dict(), trained, folder)
    encoder.load_state_dict(trained)
    _log.info("vision: taken from the contrastive model in %s", folder)


def _state(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / TENSORS} cannot be read ({error}); train or copy the model again") from error


def _check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], folder: Path) -> None:
    odd = sorted(set(own) ^ set(state)) or [key for key in own if own[key].shape != state[key].shape]
    if odd:
        raise CheckpointError(
            f"{folder} is of another architecture: {len(odd)} tensors do not fit, such as {odd[0]!r}; "
            "give it the model configuration it was trained with"
        )


def _under_adapters(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name plain weights as a model with fresh adapters does, which wraps each adapted layer."""
    wrapped = {key.replace(".base_layer.", "."): key for key in own if ".base_layer." in key}
    return {key if key in own else wrapped.get(key, key): value for key, value in state.items()}


def _into_experts(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every expert a copy of the dense network it stands for, where the state has that and no experts."""
    dense = {key: _EXPERT.sub("", key) for key in own if key not in state and _EXPERT.search(key)}
    copied = {key: state[name] for key, name in dense.items() if name in state}
    mixtures = {key[: match.start()] for key in copied if (match := _EXPERT.search(key))}
    routers = {key: value for key, value in own.items() if _ROUTER.sub("", key) in mixtures}
    replaced = set(dense.values())
    return {key: value for key, value in state.items() if key not in replaced} | routers | copied


def _distinct(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor once: tied weights share memory, which safetensors refuses."""
    seen: set[tuple[int, ...]] = set()
    distinct = {}
    for key, tensor in state.items():
        identity = (tensor.data_ptr(), *tensor.shape) if tensor.numel() else (hash(key),)
        if identity not in seen:
            seen.add(identity)
            distinct[key] = tensor.contiguous()
    return distinct


def _build(recipe: Mapping[str, Any], folder: Path) -> Any:
    made = _class_of_ours(str(recipe["class_path"]))
    arguments = {key: _argument(value, folder) for key, value in recipe["init_args"].items()}
    if "tokenizer" in inspect.signature(made).parameters:
        arguments["tokenizer"] = str(folder)
    return partial(made, **arguments) if recipe.get("needs_widths") else made(**arguments)


def _argument(value: Any, folder: Path) -> Any:
    """An argument of a recipe, with the recipes in it built."""
    if isinstance(value, list):
        return [_argument(one, folder) for one in value]
    return _build(value, folder) if isinstance(value, dict) and "class_path" in value else value


def _class_of_ours(class_path: str) -> type[nn.Module]:
    """The module class of that name; whatever else the name leads to, such as a function that imports, is refused."""
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module), name, None) if module.startswith("mmmed.models.") else None
    except ModuleNotFoundError:
        found = None
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith("mmmed.")):
        raise CheckpointError(f"the folder asks for class {class_path!r}, which is no model part of mmmed; refused")
    return found


def _transform(content: Mapping[str, Any]) -> ImageTransform:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return ImageTransform(**values)
