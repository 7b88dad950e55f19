"""`mmmed import`: a checkpoint of another project becomes a model folder of ours, tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmed.errors import CheckpointError, OutputError
from mmmed.interop.layouts import detect
from mmmed.interop.names import Move, Plan, Shape, check_total
from mmmed.interop.readers import read_layout
from mmmed.interop.reading import Reading
from mmmed.interop.skeleton import skeleton, tensor_shapes
from mmmed.interop.tensors import DIGEST, UNREAD, TensorFiles, write_digest, write_plan
from mmmed.models.folder import FORMAT, RECIPE, TENSORS
from mmmed.models.vlm import VisionLanguageModel
from mmmed.processing.prompt import ChatPrompt

MAX_LENGTH = 2048


def import_(
    path: str | Path,
    to: str | Path,
    *,
    vision: str | None = None,
    language: str | None = None,
    base: str | None = None,
    template: str | None = None,
    max_length: int = MAX_LENGTH,
) -> Path:
    """Turn a checkpoint of another project into a model folder; any tensor left over or missing is refused.

    Known are: Hugging Face LLaVA, original LLaVA and LLaVA-Med (v1.0 with its delta merged, v1.5), nanoVLM,
    Prismatic, and files that hold a projector alone (MiniGPT-4's, LLaVA's mm_projector.bin).

    Args:
        path: Folder of the checkpoint, or its file.
        to: Folder that is made.
        vision: Reference of the image encoder, where the checkpoint does not hold or describe it. Weights that the
            checkpoint holds are always the ones that are used.
        language: Reference of the language model's configuration and tokenizer, where the checkpoint has neither.
        base: Model folder of ours that a projector file is put into.
        template: Name of a chat template for checkpoints that bring none: vicuna_v1, llava_v0 or mistral_instruct.
        max_length: Longest sequence of the model's processor, in tokens.

    Returns:
        The folder.

    Raises:
        CheckpointError: The layout is not known, or does not fit key by key.
        OutputError: The folder exists already, or cannot be written.
    """
    folder, source = Path(to), Path(path)
    if folder.exists():
        raise OutputError(f"{folder} exists already; name a folder that does not, or remove it")
    partial = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with TensorFiles(source) as files:
            layout = detect(files.shapes, what=str(source))
            partial.mkdir(parents=True)
            reading = read_layout(layout, source, files, vision=vision, language=language, base=base, template=template)
            with reading.others:
                _write(reading, source, partial, max_length=max_length)
        partial.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error}; free space or choose another --to") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """A foreign checkpoint, proved to fit a model of ours.

    Args:
        model: On the meta device.
        content: Of the recipe file.
        plan: Every tensor that is copied.
        expected: Names and shapes that the model needs.
        aside: Encoder tensors behind the chosen layer, kept beside the model.
    """

    model: VisionLanguageModel
    content: Mapping[str, Any]
    plan: Plan
    expected: Mapping[str, Shape]
    aside: frozenset[str]


def fitting(reading: Reading, source: Path, folder: Path, *, max_length: int = MAX_LENGTH) -> Fitting:
    """Prove that a checkpoint fits, key by key; the tokenizer is written to the folder.

    Raises:
        CheckpointError: A tensor is left over, missing or misshapen, or the image token is another.
    """
    prompt = ChatPrompt(reading.tokenizer)
    reading.tokenizer.save_pretrained(folder)
    content = {
        "format": FORMAT,
        "model": reading.recipe,
        "transform": asdict(reading.transform),
        "processor": {"system": reading.system, "max_length": max_length},
        "provenance": {**reading.provenance, "imported": {"from": source.name, "layout": reading.layout}},
    }
    model = skeleton(content, tokenizer=folder)
    expected = tensor_shapes(model)
    plan = _without_padding(reading, expected)
    aside = {name for name in plan if name not in expected and name in reading.whole_vision}
    check_total(
        {name: move for name, move in plan.items() if name not in aside},
        sources=reading.shapes,
        targets=expected,
        what=str(source),
        set_aside=[str(plan[name].source) for name in aside] + list(reading.checked),
    )
    if reading.image_id is not None and prompt.image_id != reading.image_id:
        raise CheckpointError(
            f"{source}: the tokenizer gives '<image>' the id {prompt.image_id}, and config.json {reading.image_id}"
        )
    return Fitting(model=model, content=content, plan=plan, expected=expected, aside=frozenset(aside))


def _write(reading: Reading, source: Path, folder: Path, *, max_length: int) -> None:
    fit = fitting(reading, source, folder, max_length=max_length)
    dtypes = {name: _dtype(move, reading) for name, move in fit.plan.items()}
    kept = [name for name in fit.expected if name in fit.plan]
    written = write_plan(folder / TENSORS, fit.plan, reading.read, names=kept, shapes=fit.expected, dtypes=dtypes)
    if fit.aside:
        shapes = {name: reading.shapes[str(fit.plan[name].source)] for name in fit.aside}
        written |= write_plan(
            folder / UNREAD, fit.plan, reading.read, names=sorted(fit.aside), shapes=shapes, dtypes=dtypes
        )
    # As the model itself would write it, so that an import and a later save agree.
    content = {**fit.content, "model": fit.model.recipe()}
    (folder / RECIPE).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    write_digest(folder, written, made_from=source.name, layout="mmmed", notes={"imported_layout": reading.layout})


def _without_padding(reading: Reading, expected: Mapping[str, Shape]) -> dict[str, Move]:
    """Leave out rows that our own export added to the vocabulary, provided nobody has trained them since."""
    plan = dict(reading.plan)
    if reading.vocabulary is None:
        return plan
    for name in ("embed_tokens.weight", "lm_head.weight"):
        for target in [one for one in plan if one.endswith(name)]:
            if expected.get(target, (0,))[0] == reading.vocabulary:
                plan[target] = Move(plan[target].source, _first_rows(reading.vocabulary))
    return plan


def _first_rows(rows: int) -> Callable[[Tensor], Tensor]:
    return lambda matrix: matrix[:rows].contiguous()


def _dtype(move: Move, reading: Reading) -> torch.dtype:
    return torch.float32 if move.source is None else reading.dtypes[move.source]


def is_imported(folder: Path) -> bool:
    """Say whether a folder was made by `import_` to the end."""
    return (folder / RECIPE).is_file() and (folder / DIGEST).is_file()
