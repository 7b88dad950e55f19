"""A model folder of ours, opened to be written in another layout: its parts without content, its tensors on disk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmed.errors import CheckpointError
from mmmed.interop.configs import check_projector, language_config_of, vision_config_of, vision_place
from mmmed.interop.names import Shape, check_total, moves
from mmmed.interop.openclip import from_open_clip
from mmmed.interop.skeleton import skeleton, tensor_shapes
from mmmed.interop.tensors import TensorFiles
from mmmed.models.encoders.open_clip import OpenClipEncoder
from mmmed.models.folder import RECIPE, load, read_content
from mmmed.models.language import CausalLanguageModel
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.processor import Processor


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """All that a writer of another layout asks of a model that LLaVA can hold.

    Args:
        folder: Where the model is.
        model: Its parts on the meta device.
        processor: The one it was trained with.
        vision: Configuration of the encoder, as transformers has it.
        language: Configuration of the language model, as transformers has it.
        kept_layers: Blocks of the encoder that the features come through.
        layer: Counted from the end of an encoder of full depth, as LLaVA does.
        select: `patch` or `cls_patch`.
        linear: The projector is one linear layer.
        provenance: How the model was made.
        shapes: Of the tensors that can be read, by the names of our `TransformersEncoder`.
        dtypes: Of the same.
        read: Gives one of them.
        origins: Their names in the model folder.
    """

    folder: Path
    model: VisionLanguageModel
    processor: Processor
    vision: Mapping[str, Any]
    language: Mapping[str, Any]
    kept_layers: int
    layer: int
    select: str
    linear: bool
    provenance: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, torch.dtype]
    read: Callable[[str], Tensor]
    origins: Mapping[str, str]

    @property
    def base(self) -> str:
        """What the language model calls its base."""
        return str(self.model.language.get_submodule("model").base_model_prefix)

    @property
    def embedding(self) -> str:
        """Name of the embedding matrix."""
        return f"language.model.{self.base}.embed_tokens.weight"

    @property
    def image_id(self) -> int:
        """Token id that stands for image features."""
        return self.processor.image_id


def model_folder(path: Path) -> Path:
    """The model folder that a path names: itself, or `model` in the folder of a run.

    Raises:
        CheckpointError: There is none.
    """
    for folder in (path, path / "model"):
        if (folder / RECIPE).is_file():
            return folder
    raise CheckpointError(f"no model of mmmed at {path}; name the `model` folder that a run left under its --output")


def _merged(folder: Path) -> dict[str, Tensor]:
    """The tensors of the plain model that computes what the model with its adapter does."""
    model = load(folder).model
    assert isinstance(model.language, CausalLanguageModel)
    model.language.merge()
    return model.state_dict()


@contextmanager
def open_source(path: Path) -> Iterator[ExportSource]:
    """Open a model folder for export; adapters are merged into a copy.

    Raises:
        CheckpointError: LLaVA cannot hold this architecture, or the folder's tensors are not those of its recipe.
    """
    folder = model_folder(path)
    content = read_content(folder)
    language = content["model"]["language"]["init_args"]
    adapted = language.get("adapter") is not None
    if adapted:
        content = copy.deepcopy(content)
        content["model"]["language"]["init_args"]["adapter"] = None
    model = skeleton(content, tokenizer=folder)
    vision, linear = vision_config_of(model), check_projector(model)
    language_config = language_config_of(model)
    layer, select = vision_place(model)
    depth = int(vision["num_hidden_layers"])
    expected = tensor_shapes(model)
    with TensorFiles(folder) as files:
        merged = _merged(folder) if adapted else {}
        shapes: dict[str, Shape] = dict(files.shapes)
        dtypes = dict(files.dtypes)
        if adapted:
            shapes = {name: tuple(merged[name].shape) for name in expected if name in merged}
            dtypes = {name: merged[name].dtype for name in shapes}
        unread = [name for name in shapes if name.startswith("vision.") and name not in expected]
        plan = moves({name: name for name in shapes if name in expected})
        check_total(plan, sources=shapes, targets=expected, what=str(folder), set_aside=unread)
        encoder = model.vision if hasattr(model.vision, "select") else model.get_submodule("vision.encoder")
        frozen = "vision.encoder." if encoder is not model.vision else "vision."
        origins = {name.replace(frozen, "vision.", 1): name for name in shapes}
        changes: Mapping[str, Any] = {}
        if isinstance(encoder, OpenClipEncoder):
            changes = from_open_clip(origins)
            left = {name: origin for name, origin in origins.items() if not name.startswith("vision.")}
            origins = left | {name: origins[str(move.source)] for name, move in changes.items()}

        def read(name: str) -> Tensor:
            origin = origins[name]
            tensor = merged[origin].detach() if adapted else files.read(origin)
            change = changes[name].change if name in changes else None
            return tensor if change is None else change(tensor)

        yield ExportSource(
            folder=folder,
            model=model,
            processor=Processor(
                model.language.tokenizer,
                transform=model.transform,
                tokens_per_image=model.tokens_per_image,
                **content["processor"],
            ),
            vision=vision,
            language=language_config,
            kept_layers=layer % depth + 1,
            layer=layer % depth - depth,
            select=select,
            linear=linear,
            provenance=content["provenance"],
            shapes={name: _shape_after(name, shapes[origin], changes) for name, origin in origins.items()},
            dtypes={name: dtypes[origin] for name, origin in origins.items()},
            read=read,
            origins=origins,
        )


def _shape_after(name: str, shape: Shape, changes: Mapping[str, Any]) -> Shape:
    change = changes[name].change if name in changes else None
    return shape if change is None else tuple(change(torch.empty(shape, device="meta")).shape)
