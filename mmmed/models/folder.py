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
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from mmmed.errors import CheckpointError, OutputError
from mmmed.models.contrastive import ContrastiveModel
from mmmed.models.features import FrozenFeatures
from mmmed.models.filling import check_fit, distinct, fill, fill_to_go_on, read_tensors
from mmmed.models.parts import ModelOfParts
from mmmed.models.vlm import VisionLanguageModel
from mmmed.transforms import ImageTransform

_log = logging.getLogger(__name__)

FORMAT = 1
RECIPE = "model.json"
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


def save(
    model: ModelOfParts,
    folder: Path,
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model so that `load` gives it back; an older folder of this name is replaced only when all is written.

    Args:
        model: The model.
        folder: Where to.
        settings: Arguments of its processor beyond what the model itself knows.
        provenance: How it was made.
        state: Its tensors put together, where the model itself holds pieces of them.

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
        save_file(distinct(state if state is not None else model.state_dict()), partial_folder / TENSORS)
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
    fill(model, folder / TENSORS)
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
    fill(model, folder / TENSORS)
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
        fill_to_go_on(model, folder / TENSORS)
    _prepare_alike(model, content)


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


def _fill_vision(model: VisionLanguageModel, folder: Path, *, wrapped: bool) -> None:
    """Give a model the image encoder of a contrastive one; either may be `wrapped` in `FrozenFeatures`."""
    if model.vision is None:
        raise CheckpointError(
            f"{folder} holds an image encoder, and the model has none; drop init_from or vision: null"
        )
    encoder = model.vision.encoder if isinstance(model.vision, FrozenFeatures) else model.vision
    prefix = "vision.encoder." if wrapped else "vision."
    tensors = read_tensors(folder / TENSORS)
    trained = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    check_fit(encoder.state_dict(), trained, folder / TENSORS)
    encoder.load_state_dict(trained)
    _log.info("vision: taken from the contrastive model in %s", folder)


def _prepare_alike(model: ModelOfParts, content: Mapping[str, Any]) -> None:
    """Let pictures be prepared as the weights have learned to see them; the size is the configuration's to say."""
    if model.transform is None or content["transform"] is None:
        return
    transform = replace(_transform(content["transform"]), size=model.transform.size)
    if transform != model.transform:
        _log.info("vision: pictures are prepared as of the weights it starts from, %s", transform)
        model.part("vision").transform = transform


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
