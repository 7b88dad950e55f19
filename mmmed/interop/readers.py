"""Which reader understands which layout."""

from __future__ import annotations

from pathlib import Path

from mmmed.errors import CheckpointError, did_you_mean
from mmmed.interop.hub_reader import hugging_face
from mmmed.interop.layouts import Layout
from mmmed.interop.llava_reader import llava, projector_alone
from mmmed.interop.other_readers import nanovlm, prismatic
from mmmed.interop.prompts import NAMED
from mmmed.interop.reading import Reading
from mmmed.interop.tensors import TensorFiles


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
        return hugging_face(path, files, template=template)
    if layout == "llava":
        return llava(path, files, vision=vision, template=template)
    if layout in ("minigpt4", "mm_projector"):
        return projector_alone(path, files, base=base)
    if layout == "nanovlm":
        return nanovlm(path, files, language=language)
    return prismatic(path, files, vision=vision, language=language, template=template)
