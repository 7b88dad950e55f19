"""`mmmed inspect`: what is in a checkpoint, and whether it fits, without loading it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmmed.errors import MmmedError
from mmmed.interop.importing import fitting
from mmmed.interop.layouts import Layout, detect
from mmmed.interop.names import Shape, check_total, moves
from mmmed.interop.readers import read_layout
from mmmed.interop.skeleton import skeleton, tensor_shapes
from mmmed.interop.source import model_folder
from mmmed.interop.tensors import DIGEST, TensorFiles, differing
from mmmed.models.folder import read_content
from mmmed.models.vlm import PARTS, VisionLanguageModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a checkpoint holds.

    Args:
        layout: Whose names its tensors have.
        parameters: Values of each part, by the first words of the tensors' names.
        dtypes: Number of tensors of each type.
        classes: Class that each part would be built from.
        tokens_per_image: Length of an image in a prompt.
        transform: How pixels are prepared.
        complaint: Why it cannot be opened, key by key; empty where it can.
        changed: Tensors that are not as the folder's digest says; None where it has no digest.
    """

    layout: Layout
    parameters: Mapping[str, int]
    dtypes: Mapping[str, int]
    classes: Mapping[str, str] = field(default_factory=dict)
    tokens_per_image: int | None = None
    transform: str = ""
    complaint: str = ""
    changed: tuple[str, ...] | None = None

    def lines(self) -> list[str]:
        """For reading."""
        total = sum(self.parameters.values())
        facts = [f"layout            {self.layout}", f"parameters        {total:,}"]
        facts += [f"  {name:<15} {count:,}" for name, count in self.parameters.items()]
        facts.append(f"types             {', '.join(f'{count} {name}' for name, count in self.dtypes.items())}")
        facts += [f"  {name:<15} {path}" for name, path in self.classes.items()]
        if self.tokens_per_image is not None:
            facts.append(f"tokens per image  {self.tokens_per_image}")
        if self.transform:
            facts.append(f"pixels            {self.transform}")
        if self.changed is not None:
            told = f"{len(self.changed)} tensors differ, such as {self.changed[0]!r}" if self.changed else "as written"
            facts.append(f"digest            {told}")
        facts.append(f"fits              {f'no: {self.complaint}' if self.complaint else 'yes'}")
        return facts


def inspect_checkpoint(
    path: Path,
    *,
    vision: str | None = None,
    language: str | None = None,
    base: str | None = None,
    digest: bool = False,
) -> Inspection:
    """Look into a checkpoint of any known layout.

    Args:
        path: Folder or file.
        vision: As for `import_`.
        language: As for `import_`.
        base: As for `import_`.
        digest: Hash every tensor and compare with the folder's digest.

    Raises:
        CheckpointError: There are no tensors, or they are of no known layout.
    """
    ours = path / "model" if (path / "model" / "model.json").is_file() else path
    with TensorFiles(ours) as files:
        layout = detect(files.shapes, what=str(path))
        counts = _by_part(files.shapes)
        dtypes = Counter(str(dtype).removeprefix("torch.") for dtype in files.dtypes.values())
        changed = tuple(differing(ours)) if digest and (ours / DIGEST).is_file() else None
        try:
            if layout == "mmmed":
                model = _our_own(ours, files)
            else:
                model = _foreign(layout, path, files, vision=vision, language=language, base=base)
        except MmmedError as error:
            return Inspection(layout=layout, parameters=counts, dtypes=dtypes, complaint=str(error), changed=changed)
    return Inspection(
        layout=layout,
        parameters=counts,
        dtypes=dtypes,
        classes=_classes(model),
        tokens_per_image=model.tokens_per_image,
        transform=str(model.transform) if model.transform is not None else "",
        changed=changed,
    )


def _our_own(path: Path, files: TensorFiles) -> VisionLanguageModel:
    folder = model_folder(path)
    model = skeleton(read_content(folder), tokenizer=folder)
    expected = tensor_shapes(model)
    aside = [name for name in files.shapes if name not in expected and name.startswith("vision.")]
    plan = moves({name: name for name in files.shapes if name in expected})
    check_total(plan, sources=files.shapes, targets=expected, what=str(path), set_aside=aside)
    return model


def _foreign(
    layout: Layout, path: Path, files: TensorFiles, *, vision: str | None, language: str | None, base: str | None
) -> VisionLanguageModel:
    reading = read_layout(layout, path, files, vision=vision, language=language, base=base, template=None)
    with reading.others, tempfile.TemporaryDirectory() as folder:
        return fitting(reading, path, Path(folder)).model


def _by_part(shapes: Mapping[str, Shape]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, shape in shapes.items():
        words = name.removeprefix("model.").split(".")
        counts[words[0]] += int(torch.Size(shape).numel())
    return dict(counts.most_common())


def _classes(model: VisionLanguageModel) -> dict[str, str]:
    recipe: Mapping[str, Any] = model.recipe()
    return {name: str(recipe[name]["class_path"]) for name in PARTS if recipe.get(name) is not None}
