"""From a path or a hub id to a session, whatever project the checkpoint comes from."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from mmmed.errors import CheckpointError
from mmmed.inference.plain import is_language_model, open_language_model
from mmmed.inference.session import Precision, Session, open_session
from mmmed.interop.importing import import_, is_imported
from mmmed.models.folder import RECIPE
from mmmed.models.weights import cache_folder, catalogue, language_folder, resolve
from mmmed.models.weights.fetch import exclusive

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def load(
    checkpoint: str | Path, *, device: str | None = None, chat: bool = False, precision: Precision = "float32"
) -> Session:
    """Open a model to ask it: one of ours, a LLaVA of Hugging Face or of the original project, or a language model.

    A foreign LLaVA is converted once and kept in the cache (`MMMED_CACHE`). A causal language model of transformers is
    taken as it is; it reads questions as plain text and goes on from them (see `mmmed.inference.plain`).

    Args:
        checkpoint: A run's folder or its `model` folder; a folder of a foreign checkpoint; a language model in a GGUF
            file, which is unpacked once; ``hf:ORG/NAME@REVISION``; ``ORG/NAME`` on the hub, at its present state; or a
            name of `mmmed weights list`.
        device: Where to compute; None takes a GPU where there is one.
        chat: Put questions to a language model in its tokenizer's chat template; other models are asked in the form
            they were trained in.
        precision: What the language model computes in.

    Raises:
        ConfigError: A chat template is asked for, and the tokenizer has none.
        CheckpointError: There is no model, or it does not fit what mmmed can compute, key by key.
        WeightsError: The hub does not answer.
    """
    path = _folder(str(checkpoint))
    if any((folder / RECIPE).is_file() for folder in (path, path / "model")):
        return open_session(path, device=device, precision=precision)
    if is_language_model(path):
        return open_language_model(path, device=device, chat=chat, precision=precision)
    if path.is_dir() and not (path / "config.json").is_file():
        raise CheckpointError(f"no model at {path}; expected model.json (ours) or config.json (another project's)")
    return open_session(_converted(path), device=device, precision=precision)


def _folder(checkpoint: str) -> Path:
    path = Path(checkpoint).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return language_folder(str(path))
    if path.exists():
        return path
    for entry in catalogue():
        if checkpoint == entry.name and entry.kind == "language":
            return language_folder(entry.reference)
    return resolve(f"hf:{checkpoint}@main" if _HUB_NAME.fullmatch(checkpoint) else checkpoint)


def _converted(path: Path) -> Path:
    """The conversion of a foreign checkpoint, made unless its files are as they were."""
    state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(path.resolve().rglob("*"))]
    key = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    with exclusive(cache_folder() / "imported" / key) as folder:
        model = folder / "model"
        if not is_imported(model):
            shutil.rmtree(model, ignore_errors=True)
            import_(path, model)
        return model
